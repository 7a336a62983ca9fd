//! The `file` driver: the KEK is a file that only its owner can read.
//!
//! ```text
//! keystead-kek-1 <64 hex digits>\n
//! ```
//!
//! It is made at the first start with mode 0600, and never again: where an installation exists and
//! the file does not, a new one would only hide the loss. A file that others can read is refused.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use keystead_core::ids::{InstallationId, SealKeyId};
use keystead_core::seal::{self, Kind, Place, SealKey};
use zeroize::Zeroizing;

use super::{Kms, KmsError, KmsFuture};
use crate::clock;

const MAGIC: &str = "keystead-kek-1 ";

/// A KEK in a file.
pub struct FileKms {
    path: PathBuf,
}

impl FileKms {
    /// Uses the file at `path`; with `create`, makes it where there is none.
    ///
    /// # Errors
    /// `Setup` with what to do: the file is missing, can be read by others, or is no KEK file.
    pub fn open(path: &Path, create: bool) -> Result<FileKms, KmsError> {
        let kms = FileKms {
            path: path.to_owned(),
        };
        match kms.read() {
            Err(KmsError::Setup(_)) if create && !path.exists() => {
                kms.make()?;
                kms.read()?;
            }
            other => {
                other?;
            }
        }
        Ok(kms)
    }

    fn make(&self) -> Result<(), KmsError> {
        let folder = self
            .path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder {
            fs::create_dir_all(folder).map_err(|e| self.fault("cannot be made", &e))?;
        }
        let no_randomness = |_| KmsError::Setup("no randomness".to_owned());
        let bytes = Zeroizing::new(clock::random::<32>().map_err(no_randomness)?);
        let mut text = Zeroizing::new(String::with_capacity(MAGIC.len() + 65));
        text.push_str(MAGIC);
        for byte in bytes.iter() {
            for nibble in [byte >> 4, byte & 15] {
                text.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
            }
        }
        text.push('\n');
        // Whole or not at all, also when this process ends in between: written beside, then given
        // its name. A link never overwrites another node's key and never follows one.
        let unique = u64::from_be_bytes(clock::random().map_err(no_randomness)?);
        let beside = self.path.with_extension(format!("new-{unique:x}"));
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&beside)
            .and_then(|mut file| {
                file.write_all(text.as_bytes())?;
                file.sync_all()?;
                match fs::hard_link(&beside, &self.path) {
                    // Another node was first: its key is the one.
                    Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
                    other => other,
                }
            });
        let removed = fs::remove_file(&beside);
        written
            .and(removed)
            .map_err(|e| self.fault("cannot be made", &e))?;
        if let Some(folder) = folder {
            fs::File::open(folder)
                .and_then(|folder| folder.sync_all())
                .map_err(|e| self.fault("cannot be written", &e))?;
        }
        Ok(())
    }

    fn read(&self) -> Result<SealKey, KmsError> {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&self.path);
        let mut file = match file {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return Err(KmsError::Setup(format!(
                    "the root key file {} is missing: restore it from where you keep it; without it nothing that was sealed can be opened",
                    self.path.display()
                )));
            }
            Err(e) => return Err(self.fault("cannot be opened", &e)),
        };
        let about = file
            .metadata()
            .map_err(|e| self.fault("cannot be read", &e))?;
        if about.mode() & 0o077 != 0 {
            return Err(KmsError::Setup(format!(
                "the root key file {} can be read by others (mode {:03o}): run chmod 600 on it, and replace the key if others had access",
                self.path.display(),
                about.mode() & 0o777,
            )));
        }
        let mut text = Zeroizing::new(String::with_capacity(256));
        (&mut file)
            .take(200)
            .read_to_string(&mut text)
            .map_err(|e| self.fault("cannot be read", &e))?;
        text.strip_prefix(MAGIC)
            .and_then(|hex| parse_hex(hex.strip_suffix('\n').unwrap_or(hex)))
            .map(|bytes| SealKey::from_bytes(*bytes))
            .ok_or_else(|| {
                KmsError::Setup(format!(
                    "{} is not a root key file of Keystead",
                    self.path.display()
                ))
            })
    }

    fn fault(&self, what: &str, e: &std::io::Error) -> KmsError {
        KmsError::Setup(format!(
            "the root key file {} {what}: {e}",
            self.path.display()
        ))
    }
}

fn parse_hex(hex: &str) -> Option<Zeroizing<[u8; 32]>> {
    let mut bytes = Zeroizing::new([0; 32]);
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks(2)) {
        let digit = |b: u8| char::from(b).to_digit(16);
        *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()?;
    }
    Some(bytes)
}

const KEK_ID: SealKeyId = SealKeyId::from_uuid(uuid::Uuid::from_u128(1));

fn place(installation: InstallationId) -> Place {
    Place {
        tenant: [0; 16],
        kind: Kind::RootKey,
        record: *installation.bytes(),
        field: 0,
        version: 1,
    }
}

impl Kms for FileKms {
    fn name(&self) -> &'static str {
        "file"
    }

    fn wrap<'a>(
        &'a self,
        root: &'a SealKey,
        installation: InstallationId,
    ) -> KmsFuture<'a, Vec<u8>> {
        Box::pin(async move {
            let kek = self.read()?;
            let salt = clock::random().map_err(|e| KmsError::Unreachable(e.to_string()))?;
            Ok(seal::seal_key(
                &kek,
                &KEK_ID,
                &place(installation),
                salt,
                root,
            ))
        })
    }

    fn unwrap<'a>(
        &'a self,
        wrapped: &'a [u8],
        installation: InstallationId,
    ) -> KmsFuture<'a, SealKey> {
        Box::pin(async move {
            let kek = self.read()?;
            seal::open_key(&kek, &KEK_ID, &place(installation), wrapped).map_err(|_| {
                KmsError::Corrupt(format!(
                    "{} is another key than the one that sealed this installation",
                    self.path.display()
                ))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_file_is_made_once_and_refused_when_others_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/root.key");
        assert!(
            matches!(FileKms::open(&path, false), Err(KmsError::Setup(text)) if text.contains("missing"))
        );
        FileKms::open(&path, true).unwrap();
        let first = fs::read(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        FileKms::open(&path, true).unwrap();
        assert_eq!(
            fs::read(&path).unwrap(),
            first,
            "a second start keeps the key"
        );
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(
            matches!(FileKms::open(&path, true), Err(KmsError::Setup(text)) if text.contains("chmod 600"))
        );
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "keystead-kek-1 zz").unwrap();
        assert!(FileKms::open(&path, true).is_err());
    }

    #[test]
    fn a_link_in_place_of_the_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        FileKms::open(&real, true).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        assert!(FileKms::open(&link, true).is_err());
    }

    #[tokio::test]
    async fn what_is_wrapped_opens_for_this_installation_and_this_key_only() {
        let folder = tempfile::tempdir().unwrap();
        let kms = FileKms::open(&folder.path().join("a"), true).unwrap();
        let other = FileKms::open(&folder.path().join("b"), true).unwrap();
        let (here, there) = (
            InstallationId::from_uuid(uuid::Uuid::from_u128(5)),
            InstallationId::from_uuid(uuid::Uuid::from_u128(6)),
        );
        let wrapped = kms.wrap(&SealKey::from_bytes([7; 32]), here).await.unwrap();
        let again = kms.unwrap(&wrapped, here).await.unwrap();
        assert_eq!(
            seal::check_value(&again, &[]),
            seal::check_value(&SealKey::from_bytes([7; 32]), &[])
        );
        assert!(matches!(
            kms.unwrap(&wrapped, there).await,
            Err(KmsError::Corrupt(_))
        ));
        assert!(matches!(
            other.unwrap(&wrapped, here).await,
            Err(KmsError::Corrupt(_))
        ));
    }
}
