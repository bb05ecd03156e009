//! The token that stands for an operator on TCP.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// A token that can be guessed is none: `openssl rand -hex 32` gives 64 characters.
const SHORTEST: usize = 32;

/// More is no token, but some other file.
const LONGEST: usize = 1024;

/// The secret, as its digest: two digests have the same length, whatever was sent.
#[derive(Clone)]
pub struct Token([u8; 32]);

/// Why a file gives no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It cannot be read.
    #[error("cannot read {path}: {source}; becalm's user must be able to")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// It is no secret.
    #[error(
        "everybody on this machine may read or change {path} (mode {mode:04o}): chmod o-rwx it, and make a new token"
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// What it holds is no token.
    #[error(
        "{0} holds no token: one line of {SHORTEST} to {LONGEST} visible ASCII characters; make one with `openssl rand -hex 32`"
    )]
    Content(PathBuf),
}

impl Token {
    /// Reads a file that only becalm and its group may read.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let failed = |source| TokenError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o7777;
        if mode & 0o007 != 0 {
            return Err(TokenError::Open { path: path.to_owned(), mode });
        }
        let mut text = Vec::new();
        // A line feed or two at its end are no part of it.
        file.take(LONGEST as u64 + 3).read_to_end(&mut text).map_err(failed)?;
        let token = text.trim_ascii_end();
        let fits = (SHORTEST..=LONGEST).contains(&token.len()) && token.iter().all(u8::is_ascii_graphic);
        if fits { Ok(Self::new(token)) } else { Err(TokenError::Content(path.to_owned())) }
    }

    /// Of this text.
    pub fn new(text: &[u8]) -> Self {
        Self(Sha256::digest(text).into())
    }

    /// Is this the token? Takes as long for a wrong one as for the right one.
    pub fn is(&self, text: &[u8]) -> bool {
        self.0.ct_eq(&Self::new(text).0).into()
    }

    /// Is this another reading of the same secret?
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

/// Not even its digest is for logs.
impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_secret_of_some_length_is_a_token() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let read = |text: &[u8], mode: u32| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            Token::read(&path)
        };
        let secret = "0123456789abcdef0123456789abcdef";
        let token = read(format!("{secret}\n").as_bytes(), 0o640).unwrap();
        assert!(token.is(secret.as_bytes()));
        assert!(
            !token.is(b"")
                && !token.is(format!("{secret}\n").as_bytes())
                && !token.is(&secret.as_bytes()[1..])
        );
        assert!(!format!("{token:?}").contains(|c: char| c.is_ascii_digit()));

        for mode in [0o644, 0o642, 0o641] {
            assert!(matches!(read(secret.as_bytes(), mode), Err(TokenError::Open { .. })), "{mode:o}");
        }
        let long = "x".repeat(1025);
        for text in [
            "",
            "\n",
            &secret[1..],
            "two lines of text\nwhich are no token",
            &long,
            "0123456789abcdef0123456789abcdé",
        ] {
            assert!(matches!(read(text.as_bytes(), 0o600), Err(TokenError::Content(_))), "{text}");
        }
        assert!(read(&long.as_bytes()[1..], 0o600).is_ok());
        assert!(matches!(Token::read(folder.path()), Err(TokenError::Open { .. } | TokenError::Read { .. })));
        assert!(matches!(Token::read(&folder.path().join("none")), Err(TokenError::Read { .. })));
    }
}
