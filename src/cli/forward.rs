//! The verbs `forward` and `unforward`: ports, as `ADDRESS:PORT[-PORT][/PROTOCOL]`.

use std::net::{IpAddr, Ipv6Addr};

use serde_json::{Value, json};

use super::Failure;
use super::output::Output;
use super::terms::Terms;
use super::verbs::changed;
use super::wait;
use crate::client::Client;
use crate::wire::ForwardInfo;

/// What one end of a forward is called on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    address: String,
    ports: Option<String>,
    protocol: Option<String>,
}

/// Takes `198.51.100.7:8000-8010/udp` or `[2001:db8::7]:80` apart. Whether the
/// parts are right is for the daemon to say.
pub(super) fn floating(text: &str) -> Result<End, String> {
    let end = end(text);
    match &end.ports {
        Some(_) => Ok(end),
        None => Err(format!(
            "name the ports, as in {}:80/tcp",
            with_brackets(&end.address)
        )),
    }
}

/// The same for the host's end, whose port and protocol are those of the other
/// when it names none.
pub(super) fn fixed(text: &str) -> Result<End, String> {
    if let Some((address, port)) = unclear(text) {
        return Err(format!(
            "write [{address}]:{port}, or [{text}] if that is the address"
        ));
    }
    let end = end(text);
    match (&end.ports, &end.protocol) {
        (_, Some(_)) => Err("the protocol stands with the floating IP".to_owned()),
        (Some(ports), None) if ports.parse::<u16>().is_err() => {
            Err("name the first port alone; the others follow it".to_owned())
        }
        (Some(_) | None, None) => Ok(end),
    }
}

/// The parts of an IPv6 address without brackets that may be meant as an address
/// and a port, as in `fd00::5:80`.
fn unclear(text: &str) -> Option<(Ipv6Addr, u16)> {
    text.parse::<Ipv6Addr>().ok()?;
    let (address, port) = text.rsplit_once(':')?;
    Some((address.parse().ok()?, port.parse().ok()?))
}

fn end(text: &str) -> End {
    let (rest, protocol) = match text.split_once('/') {
        Some((rest, protocol)) => (rest, Some(protocol.to_ascii_lowercase())),
        None => (text, None),
    };
    // An IPv6 address without brackets has no ports: its last part could be one.
    let alone = rest.parse::<Ipv6Addr>().is_ok() || rest.ends_with(']');
    let (address, ports) = if alone {
        (rest, None)
    } else {
        match rest.rsplit_once(':') {
            Some((address, ports)) => (address, Some(ports.to_owned())),
            None => (rest, None),
        }
    };
    let bare = address
        .strip_prefix('[')
        .and_then(|address| address.strip_suffix(']'));
    End {
        address: bare.unwrap_or(address).to_owned(),
        ports,
        protocol,
    }
}

pub(super) fn with_brackets(address: &str) -> String {
    match address.parse() {
        Ok(IpAddr::V6(address)) => format!("[{address}]"),
        Ok(IpAddr::V4(_)) | Err(_) => address.to_owned(),
    }
}

/// The protocol that is meant when none is named.
const PROTOCOL: &str = "tcp";

/// What is asked of the daemon.
pub(super) fn parameters(
    floating: End,
    fixed: End,
    outbound: Option<String>,
    reassociate: bool,
) -> Value {
    let End {
        address,
        ports,
        protocol,
    } = floating;
    let fixed_port: Option<u16> = fixed.ports.and_then(|port| port.parse().ok());
    json!({
        "floating_ip": address,
        "protocol": protocol.unwrap_or_else(|| PROTOCOL.to_owned()),
        "ports": ports,
        "fixed_address": fixed.address,
        "fixed_port": fixed_port,
        "outbound": outbound,
        "reassociate": reassociate,
    })
}

pub(super) fn forward(
    mut client: Client,
    output: &mut Output<'_>,
    parameters: Value,
) -> Result<(), Failure> {
    let answer = wait::call(&mut client, output, "Forward", parameters.clone())?;
    changed(output, &answer, |message| {
        let address = &message.address;
        let is_meant = |forward: &&ForwardInfo| {
            parameters["protocol"] == forward.protocol.as_str()
                && parameters["ports"].as_str().is_some_and(|ports| {
                    let alone = forward.ports.clone();
                    ports == alone || ports == format!("{alone}-{alone}")
                })
        };
        let forward = address.forwards.iter().find(is_meant);
        let what = forward.map_or_else(String::new, words);
        let floating = address.floating_ip;
        let taken = message
            .previous_fixed_address
            .map_or_else(String::new, |host| format!(", taken from {host}"));
        if message.changed {
            format!("{floating} forwards {what}{taken}")
        } else {
            format!("{floating} forwards {what} already")
        }
    })
}

pub(super) fn unforward(
    mut client: Client,
    output: &mut Output<'_>,
    floating: End,
    terms: Terms,
) -> Result<(), Failure> {
    let End {
        address,
        ports,
        protocol,
    } = floating;
    let (protocol, ports) = (
        protocol.unwrap_or_else(|| PROTOCOL.to_owned()),
        ports.unwrap_or_default(),
    );
    let parameters = json!({"floating_ip": address, "protocol": protocol, "ports": ports});
    let parameters = terms.with(parameters);
    let answer = client.call("Unforward", parameters)?;
    changed(output, &answer, |message| {
        let floating = message.address.floating_ip;
        match message.previous_fixed_address {
            Some(host) => format!("{floating} no longer forwards {ports}/{protocol} to {host}"),
            None => format!("{floating} does not forward {ports}/{protocol}"),
        }
    })
}

/// A forward as a person reads it: `8080/tcp to 10.0.0.5:80`.
pub(super) fn words(forward: &ForwardInfo) -> String {
    let ForwardInfo {
        protocol,
        ports,
        fixed_address,
        fixed_port,
        outbound,
    } = forward;
    let host = with_brackets(&fixed_address.to_string());
    let leaving = match outbound {
        crate::model::Outbound::Router => "",
        crate::model::Outbound::Floating => ", which leaves as it",
    };
    format!("{ports}/{protocol} to {host}:{fixed_port}{leaving}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_taken_apart_as_ssh_and_docker_write_it() {
        for (text, address, ports, protocol) in [
            ("198.51.100.7:80", "198.51.100.7", Some("80"), None),
            (
                "198.51.100.7:80-90/UDP",
                "198.51.100.7",
                Some("80-90"),
                Some("udp"),
            ),
            (
                "[2001:db8::7]:80/sctp",
                "2001:db8::7",
                Some("80"),
                Some("sctp"),
            ),
            ("2001:db8::7", "2001:db8::7", None, None),
            ("[fd00::5]", "fd00::5", None, None),
            ("10.0.0.5", "10.0.0.5", None, None),
        ] {
            let expected = End {
                address: address.to_owned(),
                ports: ports.map(str::to_owned),
                protocol: protocol.map(str::to_owned),
            };
            assert_eq!(end(text), expected, "{text}");
        }
        assert!(floating("198.51.100.7").is_err());
        assert!(fixed("10.0.0.5:80/tcp").is_err());
        assert!(fixed("10.0.0.5:80-90").is_err());
        assert!(fixed("10.0.0.5").is_ok());
        assert_eq!(
            fixed("fd00::5:80").unwrap_err(),
            "write [fd00::5]:80, or [fd00::5:80] if that is the address"
        );
        for clear in ["[fd00::5]:80", "[fd00::5:80]", "fd00::5", "fd00::5:beef"] {
            assert!(fixed(clear).is_ok(), "{clear}");
        }
    }
}
