//! Handing over to the user what root made: a directory, and in it the files
//! that are ours by name.
//!
//! Safe against the user itself, who may have had the directory before and may
//! be hostile: nothing is followed, everything is held by descriptor, and while
//! a file is looked at nobody but root can rename or link anything there. A
//! directory that holds other things than ours is nobody's to hand over.

use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, File, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use nix::unistd::{AccessFlags, Gid, Uid, access, fchown, fchownat};

use super::User;

/// The bit by which many users share a directory (`S_ISVTX`).
const STICKY: u32 = 0o1000;

/// Why a directory could not be made, or not be handed over.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// It cannot be made.
    #[error("cannot make the directory {}", .path.display())]
    Make {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be opened, or is a symbolic link.
    #[error(
        "cannot open the directory {} (a symbolic link is not followed; name what it leads to)",
        .path.display()
    )]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not ours alone.
    #[error(
        "{} cannot be handed over to {user}: {found}; give ipfloaterd a directory of its own",
        .path.display()
    )]
    Shared {
        /// The directory.
        path: PathBuf,
        /// To whom.
        user: User,
        /// What says that others use it.
        found: String,
    },
    /// Something with the name of a file of ours is no file of ours.
    #[error("{} is {found}, and not handed over to {user}; remove it", .path.display())]
    NotOurs {
        /// What.
        path: PathBuf,
        /// To whom.
        user: User,
        /// What it is.
        found: &'static str,
    },
    /// The owner could not be changed.
    #[error("cannot hand {} over to {user}", .path.display())]
    HandOver {
        /// What.
        path: PathBuf,
        /// To whom.
        user: User,
        /// Why.
        source: io::Error,
    },
    /// The user cannot write there.
    #[error(
        "{user} cannot write to the directory {}; it, and all above it, must be open to that user",
        .path.display()
    )]
    OutOfReach {
        /// The directory.
        path: PathBuf,
        /// Who.
        user: User,
        /// Why.
        source: nix::Error,
    },
}

/// Makes the directory if it is not there, and what is above it open to all.
pub fn make(path: &Path, mode: u32) -> Result<(), FilesError> {
    let fail = |source| FilesError::Make {
        path: path.to_owned(),
        source,
    };
    if let Some(above) = path.parent() {
        let made = DirBuilder::new().recursive(true).mode(0o755).create(above);
        made.map_err(fail)?;
    }
    match std::fs::create_dir(path) {
        // Whatever the umask: it is for other users to go through, or not.
        Ok(()) => open(path)
            .and_then(|directory| directory.set_permissions(Permissions::from_mode(mode)))
            .map_err(fail),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(fail(error)),
    }
}

/// Refuses a directory that is to be handed over and is not ours alone. Nothing
/// is touched.
pub fn check(path: &Path, user: &User, is_ours: fn(&OsStr) -> bool) -> Result<(), FilesError> {
    Place::open(path, user)?.check(is_ours).map(drop)
}

/// Hands the directory over, with what of ours is in it. Takes root; no other
/// daemon may use it meanwhile.
pub fn hand_over(path: &Path, user: &User, is_ours: fn(&OsStr) -> bool) -> Result<(), FilesError> {
    let place = Place::open(path, user)?;
    let Some(names) = place.check(is_ours)? else {
        return Ok(());
    };
    // Where several names lead to one file, one of them may be a file of root's
    // that a former owner linked here; closed, the directory stays as it is seen.
    place.set_owner(Uid::from_raw(0), Gid::from_raw(0))?;
    place.set_mode(0o700)?;
    let done = names.iter().try_for_each(|name| place.hand_over(name));
    let (uid, gid) = match done {
        Ok(()) => (user.uid(), user.gid()),
        Err(_) => place.owner,
    };
    place.set_owner(uid, gid)?;
    place.set_mode(place.mode)?;
    done
}

/// Whether this process can write to the directory.
pub fn reach(path: &Path, user: &User) -> Result<(), FilesError> {
    let wanted = AccessFlags::W_OK | AccessFlags::X_OK;
    access(path, wanted).map_err(|source| FilesError::OutOfReach {
        path: path.to_owned(),
        user: user.clone(),
        source,
    })
}

/// Opens a directory, and follows no link.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
    let mut options = File::options();
    options.read(true).custom_flags(flags.bits()).open(path)
}

/// A directory that is to belong to a user.
struct Place<'a> {
    path: &'a Path,
    user: &'a User,
    directory: File,
    owner: (Uid, Gid),
    mode: u32,
}

impl<'a> Place<'a> {
    fn open(path: &'a Path, user: &'a User) -> Result<Self, FilesError> {
        let fail = |source| FilesError::Open {
            path: path.to_owned(),
            source,
        };
        let directory = open(path).map_err(fail)?;
        let found = directory.metadata().map_err(fail)?;
        Ok(Self {
            path,
            user,
            directory,
            owner: (Uid::from_raw(found.uid()), Gid::from_raw(found.gid())),
            mode: found.mode() & 0o7777,
        })
    }

    /// The names of ours in it; `None` when all is the user's already.
    fn check(&self, is_ours: fn(&OsStr) -> bool) -> Result<Option<Vec<OsString>>, FilesError> {
        let names = self.names()?;
        let (ours, others): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| is_ours(name));
        if self.owner.0 == self.user.uid() {
            let are_the_users = self.are_the_users(&ours)?;
            return Ok(Some(ours).filter(|_| !are_the_users));
        }
        let shared = |found| FilesError::Shared {
            path: self.path.to_owned(),
            user: self.user.clone(),
            found,
        };
        if self.mode & STICKY != 0 {
            return Err(shared("it is for many users (sticky bit)".to_owned()));
        }
        match others.first() {
            Some(other) => Err(shared(format!("it also holds {}", other.display()))),
            None => Ok(Some(ours)),
        }
    }

    /// What is in it, in order. By descriptor: the path may lead elsewhere by now.
    fn names(&self) -> Result<Vec<OsString>, FilesError> {
        let listing = format!("/proc/self/fd/{}", self.directory.as_raw_fd());
        let names = std::fs::read_dir(listing)
            .and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect());
        let mut names: Vec<_> = names.map_err(|source| FilesError::Open {
            path: self.path.to_owned(),
            source,
        })?;
        names.sort();
        Ok(names)
    }

    fn are_the_users(&self, names: &[OsString]) -> Result<bool, FilesError> {
        for name in names {
            let entry = self.entry(name)?;
            if entry.is_some_and(|(_, found)| found.st_uid != self.user.uid().as_raw()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What has this name, not followed, if it is still there.
    fn entry(&self, name: &OsStr) -> Result<Option<(OwnedFd, FileStat)>, FilesError> {
        let fail = |errno: Errno| FilesError::HandOver {
            path: self.path.join(name),
            user: self.user.clone(),
            source: errno.into(),
        };
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match openat(&self.directory, name, flags, Mode::empty()) {
            Ok(file) => {
                let found = fstat(&file).map_err(fail)?;
                Ok(Some((file, found)))
            }
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(fail(errno)),
        }
    }

    fn hand_over(&self, name: &OsStr) -> Result<(), FilesError> {
        let Some((file, found)) = self.entry(name)? else {
            return Ok(());
        };
        let kind = SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits());
        let odd = match kind {
            SFlag::S_IFREG | SFlag::S_IFSOCK if found.st_nlink == 1 => None,
            SFlag::S_IFREG | SFlag::S_IFSOCK => Some("a file with several names (hard links)"),
            SFlag::S_IFLNK => Some("a symbolic link"),
            SFlag::S_IFDIR => Some("a directory"),
            _ => Some("neither a file nor a socket"),
        };
        if let Some(odd) = odd {
            return Err(FilesError::NotOurs {
                path: self.path.join(name),
                user: self.user.clone(),
                found: odd,
            });
        }
        let (uid, gid) = (Some(self.user.uid()), Some(self.user.gid()));
        // fchown(2) takes no descriptor of O_PATH.
        fchownat(&file, "", uid, gid, AtFlags::AT_EMPTY_PATH)
            .map_err(|errno| self.failed(&self.path.join(name), errno.into()))
    }

    fn set_owner(&self, uid: Uid, gid: Gid) -> Result<(), FilesError> {
        fchown(&self.directory, Some(uid), Some(gid))
            .map_err(|errno| self.failed(self.path, errno.into()))
    }

    fn set_mode(&self, mode: u32) -> Result<(), FilesError> {
        self.directory
            .set_permissions(Permissions::from_mode(mode))
            .map_err(|error| self.failed(self.path, error))
    }

    fn failed(&self, path: &Path, source: io::Error) -> FilesError {
        FilesError::HandOver {
            path: path.to_owned(),
            user: self.user.clone(),
            source,
        }
    }
}
