//! The list of vectors: what opens, and every way in which a blob must not open.

use aws_lc_rs::aead::{Aad, Nonce};

use crate::two_keys::collide;
use crate::vector::{Blob, Message, Outcome, PlaceText, Vector, edited, hex, padded, sha256};

/// Every file, by its name.
pub(crate) fn all() -> Vec<(String, Vector)> {
    let mut files = Files(Vec::new());
    round_trips(&mut files);
    changed_bytes(&mut files);
    other_inputs(&mut files);
    moved_chunks(&mut files);
    paddings(&mut files);
    two_keys(&mut files);
    files.0
}

struct Files(Vec<(String, Vector)>);

impl Files {
    fn add(&mut self, name: &str, comment: &str, mut vector: Vector) {
        vector.comment = comment.to_owned();
        self.0.push((format!("{name}.json"), vector));
    }

    fn refuse(&mut self, name: &str, comment: &str, vector: &Vector, blob: &[u8]) {
        let blob = Blob::Hex(hex(blob));
        self.add(
            name,
            comment,
            Vector {
                blob,
                ..vector.clone()
            },
        );
    }

    /// Refused: these ranges of that file's blob, with these bytes changed.
    fn edit(
        &mut self,
        name: &str,
        comment: &str,
        of: &str,
        ranges: &[(usize, usize)],
        flip: &[usize],
    ) {
        let file = format!("{of}.json");
        let source = self.0.iter().find(|(name, _)| *name == file);
        let source = source.expect("made before").1.sealed();
        let blob = edited(&source, ranges, flip);
        let blob = Blob::Edited {
            file,
            ranges: ranges.to_vec(),
            flip: flip.to_vec(),
            sha256: sha256(&blob),
        };
        self.add(name, comment, Vector { blob, ..base() });
    }
}

const CANARY: &[u8] = b"canary: an invented credential, sixty bytes long, no padding";
const HEADER: usize = 20;
const CHUNKS: usize = HEADER + 24 + 32;
const FULL: usize = 16384 + 16;

fn counting(from: u8, count: u8) -> String {
    hex(&(from..from + count).collect::<Vec<_>>())
}

/// The inputs of all files that do not say otherwise.
fn base() -> Vector {
    Vector {
        comment: String::new(),
        key: counting(0x70, 32),
        key_id: counting(0xa0, 16),
        place: PlaceText {
            tenant: counting(0x10, 16),
            kind: 1,
            record: counting(0x30, 16),
            field: 1,
            version: 7,
        },
        salt: counting(0x50, 24),
        message: None,
        blob: Blob::Hex(String::new()),
        plain_gcm_opens: false,
        result: Outcome::Corrupt,
    }
}

fn round_trips(files: &mut Files) {
    for (length, why) in [
        (0, "nothing to seal is one block of padding"),
        (1, "one byte"),
        (60, "the longest message that one block of padding holds"),
        (61, "one byte more needs a second block"),
        (
            16379,
            "the plaintext fills the first chunk but for zeros: the last chunk is empty",
        ),
        (
            16380,
            "length and message fill the first chunk exactly: the last chunk is empty",
        ),
        (16383, "longer than a chunk with its length"),
        (16384, "a message of a chunk's size"),
        (16385, "a message over a chunk's size"),
        (40000, "three chunks"),
        (65536, "64 KiB, the largest credential"),
    ] {
        let message = match length {
            0..=60 => Message::Hex(hex(&CANARY[..length])),
            _ => Message::Repeat {
                repeat: "63".to_owned(),
                count: length,
            },
        };
        let mut vector = base();
        vector.message = Some(message);
        vector.result = Outcome::Ok;
        let blob = vector.sealed();
        vector.blob = if blob.len() < 1000 {
            Blob::Hex(hex(&blob))
        } else {
            let sha256 = sha256(&blob);
            Blob::Sealed { sha256 }
        };
        files.add(&format!("round_trip_{length}"), why, vector);
    }
}

fn changed_bytes(files: &mut Files) {
    let vector = base();
    let blob = vector.around(&vector.okm().chunk(0, &padded(CANARY)));
    let end = blob.len();
    let mut flip = |name: &str, comment: &str, at: usize| {
        let mut changed = blob.clone();
        changed[at] ^= 1;
        files.refuse(name, comment, &vector, &changed);
    };
    for at in 0..HEADER {
        let part = match at {
            0 => "the magic",
            1 => "the version",
            2..=3 => "the suite",
            _ => "the key id",
        };
        let name = format!("header_byte_{at:02}");
        flip(&name, &format!("{part} in the header is another"), at);
    }
    flip("salt_first_byte", "the salt is another", HEADER);
    flip("salt_last_byte", "the salt is another", HEADER + 23);
    flip(
        "commitment_first_byte",
        "the commitment is another",
        HEADER + 24,
    );
    flip(
        "commitment_last_byte",
        "the commitment is another",
        CHUNKS - 1,
    );
    flip("ciphertext_first_byte", "the ciphertext is changed", CHUNKS);
    flip(
        "ciphertext_last_byte",
        "the ciphertext is changed",
        end - 17,
    );
    flip("tag_first_byte", "the tag is changed", end - 16);
    flip("tag_last_byte", "the tag is changed", end - 1);

    files.refuse("empty", "there is no blob", &vector, &[]);
    files.refuse(
        "trailing_byte",
        "a byte follows the last chunk",
        &vector,
        &[&blob[..], &[0]].concat(),
    );
    let beginnings_of = "round_trip_60.json".to_owned();
    let blob = Blob::Beginnings { beginnings_of };
    files.add(
        "truncated",
        "no beginning of a blob opens",
        Vector { blob, ..vector },
    );
}

fn other_inputs(files: &mut Files) {
    let vector = base();
    let blob = vector.around(&vector.okm().chunk(0, &padded(CANARY)));
    let mut refuse = |name: &str, comment: &str, change: fn(&mut Vector)| {
        let mut vector = base();
        change(&mut vector);
        files.refuse(name, comment, &vector, &blob);
    };
    refuse("place_tenant", "sealed for another tenant", |v| {
        v.place.tenant = counting(0x11, 16)
    });
    refuse("place_kind", "sealed as another kind", |v| v.place.kind = 2);
    refuse("place_record", "sealed for another record", |v| {
        v.place.record = counting(0x31, 16)
    });
    refuse("place_field", "sealed as another field", |v| {
        v.place.field = 2
    });
    refuse("place_version", "sealed as another version", |v| {
        v.place.version = 8
    });
    refuse("key", "sealed under another key", |v| {
        v.key = counting(0x71, 32)
    });
    refuse(
        "key_id",
        "the blob names another key than the one asked for",
        |v| v.key_id = counting(0xa1, 16),
    );

    let mut renamed = base();
    renamed.key_id = counting(0xa1, 16);
    let blob = [&renamed.header(), &blob[HEADER..]].concat();
    files.refuse(
        "key_id_rewritten",
        "the key id was rewritten to the one asked for",
        &renamed,
        &blob,
    );
}

fn moved_chunks(files: &mut Files) {
    let of = "round_trip_40000";
    let end = CHUNKS + 2 * FULL + (40064 - 2 * 16384) + 16;
    let whole = (0, end);
    let (head, first, second, last) = (
        (0, CHUNKS),
        (CHUNKS, CHUNKS + FULL),
        (CHUNKS + FULL, CHUNKS + 2 * FULL),
        (CHUNKS + 2 * FULL, end),
    );
    for (i, (from, to)) in [first, second, last].into_iter().enumerate() {
        files.edit(
            &format!("chunk_{i}_changed"),
            "one chunk's ciphertext is changed",
            of,
            &[whole],
            &[from],
        );
        files.edit(
            &format!("chunk_{i}_tag_changed"),
            "one chunk's tag is changed",
            of,
            &[whole],
            &[to - 1],
        );
    }
    files.edit(
        "chunks_swapped",
        "the first two chunks changed places",
        of,
        &[head, second, first, last],
        &[],
    );
    files.edit(
        "chunk_first_dropped",
        "the first chunk is missing",
        of,
        &[head, second, last],
        &[],
    );
    files.edit(
        "chunk_middle_dropped",
        "the second chunk is missing",
        of,
        &[head, first, last],
        &[],
    );
    files.edit(
        "chunk_last_dropped",
        "the last chunk is missing",
        of,
        &[head, first, second],
        &[],
    );
    files.edit(
        "chunk_repeated",
        "the first chunk stands twice",
        of,
        &[head, first, first, second, last],
        &[],
    );
    files.edit(
        "chunk_added_at_end",
        "the last chunk stands twice",
        of,
        &[whole, last],
        &[],
    );
    let full = [(0, CHUNKS + FULL)];
    files.edit(
        "chunk_empty_dropped",
        "the empty last chunk is missing",
        "round_trip_16380",
        &full,
        &[],
    );

    let vector = base();
    let okm = vector.okm();
    let chunks = [okm.chunk(0, &padded(CANARY)), okm.chunk(1, b"")].concat();
    let comment = "an empty chunk, valid in itself, follows one that is shorter than a chunk";
    files.refuse(
        "chunk_empty_added",
        comment,
        &vector,
        &vector.around(&chunks),
    );
}

fn paddings(files: &mut Files) {
    let mut refuse = |name: &str, comment: &str, plain: &[u8]| {
        let vector = base();
        let blob = vector.around(&vector.okm().chunk(0, plain));
        files.refuse(&format!("padding_{name}"), comment, &vector, &blob);
    };
    let with = |at: usize, byte: u8| {
        let mut plain = padded(b"canary");
        plain[at] = byte;
        plain
    };
    refuse(
        "first_byte_not_zero",
        "the first byte of padding is not zero",
        &with(10, 1),
    );
    refuse(
        "last_byte_not_zero",
        "the last byte of padding is not zero",
        &with(63, 0x80),
    );
    refuse(
        "length_over_the_end",
        "the message would be longer than the plaintext",
        &with(3, 61),
    );
    refuse(
        "length_huge",
        "the message would have nearly 4 GiB",
        &with(0, 0xff),
    );
    refuse(
        "block_too_many",
        "a whole block of zeros too many",
        &[padded(b"canary"), vec![0; 64]].concat(),
    );
    refuse("missing", "not a multiple of 64", &padded(b"canary")[..10]);
    refuse(
        "short_of_the_length",
        "shorter than the length field",
        &[0; 3],
    );
    refuse("nothing", "no plaintext at all", &[]);
}

/// These two keys have, under the base's salt and context, keystreams that begin with the same four bytes
/// (found by counting up: a birthday search of some 100,000 keys).
fn two_keys(files: &mut Files) {
    let numbered = |number: u64| Vector {
        key: hex(&[[0; 24].as_slice(), &number.to_be_bytes()].concat()),
        plain_gcm_opens: true,
        ..base()
    };
    let (one, other) = (numbered(67514), numbered(107744));
    let plain = padded(CANARY);
    let (ciphertext, tag) = collide(&one.okm(), &other.okm(), &plain[..48]);
    let chunk = [ciphertext.as_slice(), &tag].concat();
    let message = |vector: &Vector| {
        let mut plain = chunk.clone();
        let nonce = Nonce::assume_unique_for_key(vector.okm().nonce(0));
        let plain = vector
            .okm()
            .gcm()
            .open_in_place(nonce, Aad::empty(), &mut plain)
            .expect("it collides")[4..]
            .to_vec();
        Some(Message::Hex(hex(&plain)))
    };
    let accept = |vector: &Vector| Vector {
        message: message(vector),
        blob: Blob::Hex(hex(&vector.around(&chunk))),
        result: Outcome::Ok,
        ..vector.clone()
    };
    let comment = "the ciphertext opens under two keys in plain GCM; this commits to the first";
    files.add("two_keys_first", comment, accept(&one));
    let comment = "the same blob is refused under the second key, for its commitment alone";
    files.refuse("two_keys_second", comment, &other, &one.around(&chunk));
    let comment = "the same ciphertext with the second key's commitment opens under the second key";
    files.add("two_keys_second_committed", comment, accept(&other));
}
