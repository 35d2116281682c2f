//! The groups of a user, as the user database has them.
//!
//! The database may be a directory on the network, so it is asked on a thread
//! that may wait, and not for long.

use std::ffi::CString;
use std::time::Duration;

use nix::unistd::{User, getgrouplist};

use crate::model::{Gid, Uid};

/// How long the user database may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The groups of a user; none for one that the database does not know.
pub(super) async fn of(uid: Uid) -> Result<Vec<Gid>, String> {
    let look = tokio::task::spawn_blocking(move || look_up(uid));
    match tokio::time::timeout(PATIENCE, look).await {
        Ok(Ok(groups)) => groups.map_err(|errno| {
            format!("the user database does not tell the groups of user {uid}: {errno}")
        }),
        Ok(Err(_)) => Err("the user database could not be asked".to_owned()),
        Err(_) => Err(format!(
            "the user database does not tell the groups of user {uid} within {} s",
            PATIENCE.as_secs()
        )),
    }
}

fn look_up(uid: Uid) -> nix::Result<Vec<Gid>> {
    let Some(user) = User::from_uid(uid.into())? else {
        return Ok(Vec::new());
    };
    let Ok(name) = CString::new(user.name) else {
        return Ok(Vec::new());
    };
    let groups = getgrouplist(&name, user.gid)?;
    Ok(groups.into_iter().map(|group| group.as_raw()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn root_is_in_its_own_group_and_a_stranger_in_none() {
        assert!(of(0).await.unwrap().contains(&0));
        assert_eq!(of(3_999_999_999).await, Ok(Vec::new()));
    }
}
