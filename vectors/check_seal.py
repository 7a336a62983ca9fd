#!/usr/bin/env python3
"""Checks the vectors of the seal against pyca/cryptography (50 or newer).

Usage: check_seal.py FOLDER. Prints `N passed, M failed`; the exit code is 0 if none failed.

Opening goes through that library's own Cobblestone-256 (its name for C2SP chunked encryption with
AES-256-GCM), so salts, commitments, nonces and chunks are judged by code that shares nothing with
Keystead. Header, context and padding are written down here a second time. That class draws its own
salts, so blobs that a file gives by hash only are rebuilt from HKDFExpand and AESGCM, and must have
that hash.
"""

import hashlib
import json
import struct
import sys
from pathlib import Path

from cryptography.cobblestone import Cobblestone256Decryptor
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

CHUNK = 16384
KNOWN = bytes([0x4B, 1, 0, 1])


class Corrupt(Exception):
    pass


def header(vector):
    return KNOWN + bytes.fromhex(vector["key_id"])


def context(vector):
    place = vector["place"]
    return b"".join(
        [
            header(vector),
            bytes.fromhex(place["tenant"]),
            struct.pack(">H", place["kind"]),
            bytes.fromhex(place["record"]),
            struct.pack(">HQ", place["field"], place["version"]),
        ]
    )


def okm(vector):
    label = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0"
    info = label + bytes.fromhex(vector["salt"]) + context(vector)
    return HKDFExpand(SHA512(), 76, info).derive(bytes.fromhex(vector["key"]))


def pad(message):
    plain = struct.pack(">I", len(message)) + message
    return plain + bytes(-len(plain) % 64)


def unpad(plain):
    if len(plain) < 4:
        raise Corrupt
    (length,) = struct.unpack(">I", plain[:4])
    message = plain[4 : 4 + length]
    if pad(message) != plain or len(message) != length:
        raise Corrupt
    return message


def seal(vector):
    out = okm(vector)
    plain = pad(message_of(vector))
    blob = header(vector) + bytes.fromhex(vector["salt"]) + out[44:]
    for i in range(len(plain) // CHUNK + 1):
        nonce = int.from_bytes(out[32:44], "big") ^ i
        chunk = plain[i * CHUNK : (i + 1) * CHUNK]
        blob += AESGCM(out[:32]).encrypt(nonce.to_bytes(12, "big"), chunk, None)
    return blob


def open_blob(vector, blob):
    if blob[:20] != header(vector):
        raise Corrupt
    decryptor = Cobblestone256Decryptor(bytes.fromhex(vector["key"]), context(vector))
    try:
        plain = decryptor.update(blob[20:]) + decryptor.finalize()
    except InvalidTag:
        raise Corrupt from None
    return unpad(plain)


def message_of(vector):
    message = vector["message"]
    if isinstance(message, str):
        return bytes.fromhex(message)
    return bytes.fromhex(message["repeat"]) * message["count"]


def blobs_of(vector, vectors):
    """The blobs that a file speaks of, made without Keystead."""
    blob = vector["blob"]
    if isinstance(blob, str):
        return [bytes.fromhex(blob)]
    if "beginnings_of" in blob:
        whole = seal(vectors[blob["beginnings_of"]])
        return [whole[:end] for end in range(len(whole))]
    if "file" in blob:
        source = seal(vectors[blob["file"]])
        made = bytearray(b"".join(source[a:b] for a, b in blob["ranges"]))
        for at in blob["flip"]:
            made[at] ^= 1
        made = bytes(made)
    else:
        made = seal(vector)
    assert hashlib.sha256(made).hexdigest() == blob["sha256"], "the blob has another hash"
    return [made]


def check(vector, vectors):
    for blob in blobs_of(vector, vectors):
        try:
            message = open_blob(vector, blob)
        except Corrupt:
            assert vector["result"] == "corrupt", f"{len(blob)} bytes do not open"
        else:
            assert vector["result"] == "ok", f"{len(blob)} bytes open"
            assert message == message_of(vector), "another message"
            assert seal(vector) == blob, "sealed to another blob"
        if vector.get("plain_gcm_opens"):
            out = okm(vector)
            unpad(AESGCM(out[:32]).decrypt(out[32:44], blob[76:], None))


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    files = sorted(Path(sys.argv[1]).glob("*.json"))
    vectors = {file.name: json.loads(file.read_text()) for file in files}
    failed = 0
    for name, vector in vectors.items():
        try:
            check(vector, vectors)
        except Exception as error:  # one bad file must not hide the others
            failed += 1
            print(f"{name}: {type(error).__name__}: {error}")
    print(f"{len(vectors) - failed} passed, {failed} failed")
    sys.exit(1 if failed or not vectors else 0)


if __name__ == "__main__":
    main()
