//! Whom the daemon runs as.

use std::fmt;

use nix::unistd::{Gid, Uid, getegid, geteuid};

/// Whom the daemon becomes when root starts it and names nobody.
pub const DEFAULT_USER: &str = "ipfloater";

/// (uid_t)-1, which setresuid(2) and chown(2) take for "leave it as it is".
const NOBODYS_ID: u32 = u32::MAX;

/// A user and a group to run as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    uid: Uid,
    gid: Gid,
    name: Option<String>,
}

/// There is no such user, or one that cannot be become.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// The user of the package is not there.
    #[error(
        "there is no user {DEFAULT_USER}; `systemd-sysusers ipfloater.conf` makes it, with our \
         sysusers.d/ipfloater.conf, or name another with --user (a name, a number, or root)"
    )]
    NoDefault,
    /// The user that was named is not there.
    #[error("--user {0}: there is no such user; a number needs none, as in --user 990 or 990:990")]
    Unknown(String),
    /// What was given is neither a name nor numbers.
    #[error("--user {0}: this is neither the name of a user nor UID nor UID:GID")]
    Malformed(String),
    /// Only root becomes somebody else.
    #[error(
        "--user {wanted}: ipfloaterd was started as {own}, and only root can become somebody \
         else; start it as root, or leave --user out"
    )]
    NotRoot {
        /// Whom it should have become.
        wanted: String,
        /// Who started it.
        own: User,
    },
    /// The system does not tell who there is.
    #[error("cannot look up the user {wanted}")]
    Lookup {
        /// Whom.
        wanted: String,
        /// Why.
        source: nix::Error,
    },
}

impl User {
    /// Whom this process runs as.
    #[must_use]
    pub fn oneself() -> Self {
        Self::of(geteuid(), getegid())
    }

    /// The user of these numbers.
    #[must_use]
    pub fn of(uid: Uid, gid: Gid) -> Self {
        Self {
            uid,
            gid,
            name: None,
        }
    }

    /// Whom the daemon is to run as: root becomes whom `--user` names, or else
    /// [`DEFAULT_USER`]; everybody else remains who it is.
    pub fn wanted(named: Option<&str>) -> Result<Self, UserError> {
        let own = Self::oneself();
        match named {
            None if own.is_root() => Self::by_name(DEFAULT_USER)?.ok_or(UserError::NoDefault),
            None => Ok(own),
            Some(named) => {
                let user = Self::find(named)?;
                let same_group = user.gid == own.gid || !named.contains(':');
                if own.is_root() {
                    Ok(user)
                } else if user.uid == own.uid && same_group {
                    Ok(own)
                } else {
                    Err(UserError::NotRoot {
                        wanted: named.to_owned(),
                        own,
                    })
                }
            }
        }
    }

    /// The user that is named, be it by numbers.
    fn find(named: &str) -> Result<Self, UserError> {
        let malformed = || UserError::Malformed(named.to_owned());
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            let number = text.parse().ok().filter(|_| digits);
            number
                .filter(|number| *number != NOBODYS_ID)
                .ok_or_else(malformed)
        };
        match named.split_once(':') {
            Some((uid, gid)) => {
                let (uid, gid) = (number(uid)?, number(gid)?);
                Ok(Self::of(Uid::from_raw(uid), Gid::from_raw(gid)))
            }
            None if named.starts_with(|first: char| first.is_ascii_digit()) => {
                let uid = number(named)?;
                // One that is in no list has the group of the same number.
                let known = Self::known(named, nix::unistd::User::from_uid(Uid::from_raw(uid)))?;
                Ok(known.unwrap_or_else(|| Self::of(Uid::from_raw(uid), Gid::from_raw(uid))))
            }
            None if named.is_empty() => Err(malformed()),
            None => Self::by_name(named)?.ok_or_else(|| UserError::Unknown(named.to_owned())),
        }
    }

    fn by_name(name: &str) -> Result<Option<Self>, UserError> {
        Self::known(name, nix::unistd::User::from_name(name))
    }

    fn known(
        wanted: &str,
        found: nix::Result<Option<nix::unistd::User>>,
    ) -> Result<Option<Self>, UserError> {
        let found = found.map_err(|source| UserError::Lookup {
            wanted: wanted.to_owned(),
            source,
        })?;
        Ok(found.map(|found| Self {
            uid: found.uid,
            gid: found.gid,
            name: Some(found.name),
        }))
    }

    /// The number of the user.
    #[must_use]
    pub fn uid(&self) -> Uid {
        self.uid
    }

    /// The number of the group.
    #[must_use]
    pub fn gid(&self) -> Gid {
        self.gid
    }

    /// Whether it is root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.uid.is_root()
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { uid, gid, name } = self;
        match name {
            Some(name) => write!(f, "uid {uid} ({name}), gid {gid}"),
            None => write!(f, "uid {uid}, gid {gid}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_need_no_entry_and_names_do() {
        let of = |uid, gid| User::of(Uid::from_raw(uid), Gid::from_raw(gid));
        // 65530 is nobody's: see tests/common/nobody.rs.
        assert_eq!(User::find("65530").unwrap(), of(65_530, 65_530));
        assert_eq!(User::find("65530:7").unwrap(), of(65_530, 7));
        assert_eq!(User::find("root").unwrap().uid(), Uid::from_raw(0));
        assert_eq!(User::find("0").unwrap().gid(), Gid::from_raw(0));
        let error = User::find("no-such-user").unwrap_err();
        assert!(matches!(error, UserError::Unknown(_)), "{error}");
    }

    #[test]
    fn what_is_neither_name_nor_numbers_is_refused() {
        for text in [
            "",
            ":",
            "7:",
            ":7",
            "root:root",
            "7x",
            "7:7:7",
            "+7:7",
            "4294967295",
            "4294967296",
            "7:4294967295",
        ] {
            let error = User::find(text).unwrap_err();
            assert!(matches!(error, UserError::Malformed(_)), "{text}: {error}");
        }
    }
}
