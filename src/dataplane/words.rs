//! A transaction in the words of nft(8), for people: what a dry run tells.

use std::fmt;

use crate::model::{AddressRange, Count, Family};

use super::ruleset::uplink_chain;
use super::{Element, PortElement, Reshape, Transaction};

/// The set or map with what is in its braces, as `nft list` prints it.
impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Element::FloatingToFixed(floating, fixed) => {
                let digit = digit(floating.family());
                write!(f, "floating_to_fixed{digit} {{ {floating} : {fixed} }}")
            }
            Element::FixedToFloating(fixed, floating) => {
                let digit = digit(floating.family());
                write!(f, "fixed_to_floating{digit} {{ {fixed} : {floating} }}")
            }
            Element::RestToFixed(floating, fixed) => {
                let digit = digit(floating.family());
                write!(f, "rest_to_fixed{digit} {{ {floating} : {fixed} }}")
            }
            Element::Forward(
                floating,
                PortElement::One {
                    protocol,
                    port,
                    fixed,
                    fixed_port,
                },
            ) => {
                let digit = digit(floating.family());
                write!(
                    f,
                    "forward{digit} {{ {floating} . {protocol} . {port} : {fixed} . {fixed_port} }}"
                )
            }
            Element::Forward(
                floating,
                PortElement::Range {
                    protocol,
                    ports,
                    fixed,
                },
            ) => {
                let digit = digit(floating.family());
                write!(
                    f,
                    "forward_range{digit} {{ {floating} . {protocol} . {ports} : {fixed} }}"
                )
            }
            Element::ForwardedTo(fixed) => {
                write!(f, "forwarded_to{} {{ {fixed} }}", digit(fixed.family()))
            }
            Element::Forwarding(floating) => {
                write!(f, "forwarding{} {{ {floating} }}", digit(floating.family()))
            }
            Element::Counted(direction, floating, count) => {
                let digit = digit(floating.family());
                write!(f, "counted_{direction}{digit} {{ {floating}")?;
                if *count != Count::default() {
                    let Count { packets, bytes } = count;
                    write!(f, " counter packets {packets} bytes {bytes}")?;
                }
                f.write_str(" }")
            }
            Element::Limited(direction, floating, rate) => {
                let digit = digit(floating.family());
                let bytes = rate.bits() / 8;
                write!(
                    f,
                    "limited_{direction}{digit} {{ {floating} limit rate over {bytes} bytes/second }}"
                )
            }
            Element::Filtered(floating) => {
                write!(f, "filtered{} {{ {floating} }}", digit(floating.family()))
            }
            Element::Allowed(floating, net) => {
                write!(
                    f,
                    "allowed{} {{ {floating} . {net} }}",
                    digit(floating.family())
                )
            }
            Element::FixedToUplink(fixed, number) => write!(
                f,
                "fixed_to_uplink{} {{ {fixed} : goto {} }}",
                digit(fixed.family()),
                uplink_chain(*number)
            ),
            Element::Outside(name) => write!(f, "outside {{ \"{name}\" }}"),
        }
    }
}

impl Transaction {
    /// What it does, an order a line, as nft(8) takes them. Of a table that is made
    /// anew the elements are only counted: they are everybody's.
    #[must_use]
    pub fn orders(&self) -> Vec<String> {
        let Transaction {
            rebuild,
            reshape,
            pool,
            uplinks,
            remove,
            add,
        } = self;
        let mut orders = Vec::new();
        if let Some(Reshape {
            ruleset: _,
            new,
            altered,
            gone,
        }) = reshape
        {
            // Their rules are in the documentation of the table.
            let order = |verb: &str, name: &String| format!("{verb} chain inet ipfloater {name}");
            orders.extend(new.iter().map(|name| order("add", name)));
            orders.extend(altered.iter().map(|name| order("flush", name)));
            orders.extend(gone.iter().map(|name| order("delete", name)));
        }
        if rebuild.is_some() {
            orders.push("delete table inet ipfloater".to_owned());
            orders.push("add table inet ipfloater".to_owned());
            orders.push(format!("and {} elements, as they are now", add.len()));
            return orders;
        }
        for family in pool.iter().flat_map(|_| Family::BOTH) {
            let ranges = pool.iter().flatten();
            let ranges: Vec<_> = ranges
                .filter(|range| range.family() == family)
                .map(AddressRange::to_string)
                .collect();
            orders.extend(refilled("pool", family, &ranges));
        }
        for family in uplinks.iter().flat_map(|_| Family::BOTH) {
            let numbers = uplinks.iter().flatten();
            let ranges: Vec<_> = numbers
                .filter(|(range, _)| range.family() == family)
                .map(|(range, number)| format!("{range} : goto {}", uplink_chain(*number)))
                .collect();
            orders.extend(refilled("uplinks", family, &ranges));
        }
        let removed = remove.iter();
        orders.extend(removed.map(|element| format!("delete element inet ipfloater {element}")));
        let added = add.iter();
        orders.extend(added.map(|element| format!("add element inet ipfloater {element}")));
        orders
    }
}

/// The orders by which a set or map has these elements and no others.
fn refilled(stem: &str, family: Family, elements: &[String]) -> Vec<String> {
    let set = format!("inet ipfloater {stem}{}", digit(family));
    let mut orders = vec![format!("flush set {set}")];
    if !elements.is_empty() {
        orders.push(format!("add element {set} {{ {} }}", elements.join(", ")));
    }
    orders
}

/// How the sets and maps of a family end.
fn digit(family: Family) -> char {
    match family {
        Family::V4 => '4',
        Family::V6 => '6',
    }
}
