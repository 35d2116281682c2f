//! What the configuration says of how much a user may have.

use std::collections::BTreeMap;

use ipnet::IpNet;
use nix::unistd::{Group, User};

use crate::model::{DEFAULT_QUOTA, Limit, Limits, PartialLimit, Permitted};

use super::file::Section;
use super::{ConfigError, Warning, keys, prefix};

/// The limits of everybody, by the main section and those of users and groups.
pub(super) fn limits(
    main: &Section,
    sections: &[Section],
    private: &[IpNet],
    warnings: &mut Vec<Warning>,
) -> Result<Limits, ConfigError> {
    let PartialLimit { quota, permitted } = limit(main, private)?;
    let mut limits = Limits {
        default: Limit {
            quota: quota.unwrap_or(DEFAULT_QUOTA),
            permitted: permitted.unwrap_or_default(),
        },
        ..Limits::default()
    };
    for section in sections {
        let limit = limit(section, private)?;
        let (word, name) = section.word_and_name();
        let is_user = word.eq_ignore_ascii_case("USER");
        let id = if is_user {
            id(section, name, |name| {
                User::from_name(name).map(|user| user.map(|user| user.uid.as_raw()))
            })?
        } else {
            id(section, name, |name| {
                Group::from_name(name).map(|group| group.map(|group| group.gid.as_raw()))
            })?
        };
        let Some(id) = id else {
            warnings.push(Warning::Unknown {
                place: section.place.clone(),
                kind: if is_user { "user" } else { "group" },
                name: name.to_owned(),
            });
            continue;
        };
        let of: &mut BTreeMap<u32, PartialLimit> = if is_user {
            &mut limits.users
        } else {
            &mut limits.groups
        };
        if of.insert(id, limit).is_some() {
            let why = format!("another section describes the same, {id}; keep one");
            return Err(section.wrong("the name of the section", name, why));
        }
    }
    Ok(limits)
}

/// A user or group by name or number; `None` for a name that nobody knows, which
/// a directory service may know later.
fn id(
    section: &Section,
    name: &str,
    look_up: impl Fn(&str) -> nix::Result<Option<u32>>,
) -> Result<Option<u32>, ConfigError> {
    if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
        let why = "write the name or number of one, as in [USER alice] or [GROUP 1000]";
        return Err(section.wrong("the name of the section", name, why));
    }
    if let Ok(number) = name.parse() {
        return Ok(Some(number));
    }
    look_up(name).map_err(|errno| {
        let why = format!("the user database cannot tell: {errno}; write the number");
        section.wrong("the name of the section", name, why)
    })
}

/// The limit that one section describes.
fn limit(section: &Section, private: &[IpNet]) -> Result<PartialLimit, ConfigError> {
    let quota = section
        .text(keys::QUOTA)
        .map(|text| {
            let why = "write how many addresses a user may own, 0 to 4294967295";
            text.parse()
                .map_err(|_| section.wrong(keys::QUOTA, text, why))
        })
        .transpose()?;
    let permitted = section
        .list(keys::PERMITTED_IP_RANGES)
        .map(|items| {
            let nets = items.iter().map(|item| permitted(section, item, private));
            nets.collect::<Result<_, _>>().map(Permitted::Only)
        })
        .transpose()?;
    Ok(PartialLimit { quota, permitted })
}

fn permitted(section: &Section, item: &str, private: &[IpNet]) -> Result<IpNet, ConfigError> {
    let wrong = |why: &str| section.wrong(keys::PERMITTED_IP_RANGES, item, why);
    let net = prefix(item).ok_or_else(|| wrong("write a prefix such as 192.168.1.0/24"))?;
    if private.iter().any(|private| private.contains(&net)) {
        Ok(net)
    } else {
        Err(wrong(
            "no range of PRIVATE_IP_RANGES has it, so nobody could use it",
        ))
    }
}
