//! The verb `metrics`: what Prometheus reads, on standard output or in a file.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::Failure;
use super::complete;
use super::counters::all;
use super::output::Output;
use crate::client::{Client, ClientError};
use crate::exposition::{Exposition, Format, Kind};
use crate::wire::{Counters, Metrics};

/// What is wanted, and where.
#[derive(Debug, Args)]
pub struct Wanted {
    /// As "openmetrics", or as "prometheus": the older text, which the textfile
    /// collector of the node exporter reads
    #[arg(long, value_name = "FORMAT", default_value = "openmetrics", add = complete::words(&["openmetrics", "prometheus"]))]
    pub format: Format,
    /// Into this file, at once: who reads it sees the old text or the new one
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Not what went through each address
    #[arg(long)]
    pub no_addresses: bool,
}

pub(super) fn metrics(
    mut client: Client,
    output: &mut Output<'_>,
    wanted: Wanted,
) -> Result<(), Failure> {
    let Wanted {
        format,
        output: file,
        no_addresses,
    } = wanted;
    let parameters = json!({"format": format.as_str()});
    let answer = client.call::<Metrics>("GetMetrics", parameters)?;
    let mut text = answer.message.text;
    if !no_addresses {
        match all(&mut client, None) {
            Ok((counters, _)) => text += &by_address(&counters, format),
            // Nothing is counted, and so there is nothing to tell of it.
            Err(Failure::Client(ClientError::Refused(refused)))
                if refused.name == "CountersOff" => {}
            Err(error) => return Err(error),
        }
    }
    text += format.end();
    let is_in_file = file.is_some();
    if let Some(file) = file {
        write_at_once(&file, &text).map_err(|why| Failure::NotWritten { file, why })?;
    }
    match output.json {
        true => output.json(&json!({"text": text}))?,
        false if is_in_file => {}
        false => text.lines().try_for_each(|line| output.line(line))?,
    }
    Ok(())
}

/// What went through each address.
fn by_address(counters: &[Counters], format: Format) -> String {
    let mut text = Exposition::new(format);
    type Number = fn(&Counters) -> u64;
    let families: [(&str, &str, [Number; 2]); 2] = [
        (
            "address_packets",
            "Packets between the outside and hosts, since the address was allocated.",
            [|of| of.packets_in, |of| of.packets_out],
        ),
        (
            "address_bytes",
            "Their bytes, from the IP header on.",
            [|of| of.bytes_in, |of| of.bytes_out],
        ),
    ];
    for (name, help, [incoming, outgoing]) in families {
        text.family(name, Kind::Counter, help);
        for of in counters {
            let address = of.floating_ip.to_string();
            for (direction, number) in [("in", incoming), ("out", outgoing)] {
                let labels = [("floating_ip", &*address), ("direction", direction)];
                text.sample(&labels, number(of));
            }
        }
    }
    text.into_text()
}

/// Writes a file beside this one and puts it in its place. The name does not end
/// as this one does: the textfile collector reads all that end in `.prom`. It is
/// another user, whatever the umask.
fn write_at_once(file: &Path, text: &str) -> io::Result<()> {
    let name = file.file_name().ok_or(io::ErrorKind::IsADirectory)?;
    let mut beside = std::ffi::OsString::from(".");
    beside.push(name);
    beside.push(format!(".{}", std::process::id()));
    let beside = file.with_file_name(beside);
    // One of that name is what somebody of our number left who died.
    let _ = fs::remove_file(&beside);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&beside)
        .and_then(|mut new| {
            new.set_permissions(Permissions::from_mode(0o644))?;
            new.write_all(text.as_bytes())
        })
        .and_then(|()| fs::rename(&beside, file));
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_packets_and_bytes_by_direction() {
        let counters = Counters {
            floating_ip: "2001:db8::7".parse().unwrap(),
            packets_in: 1,
            bytes_in: 2,
            packets_out: 3,
            bytes_out: 4,
        };
        let text = by_address(&[counters], Format::Prometheus);
        let samples: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            samples,
            [
                "ipfloater_address_packets_total{floating_ip=\"2001:db8::7\",direction=\"in\"} 1",
                "ipfloater_address_packets_total{floating_ip=\"2001:db8::7\",direction=\"out\"} 3",
                "ipfloater_address_bytes_total{floating_ip=\"2001:db8::7\",direction=\"in\"} 2",
                "ipfloater_address_bytes_total{floating_ip=\"2001:db8::7\",direction=\"out\"} 4",
            ]
        );
    }

    #[test]
    fn a_file_is_replaced_and_nothing_is_left_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ipfloater.prom");
        for text in ["old, and longer\n", "new\n"] {
            write_at_once(&file, text).unwrap();
            assert_eq!(fs::read_to_string(&file).unwrap(), text);
        }
        // What is in its place cannot be replaced by a file.
        let taken = directory.path().join("taken.prom");
        fs::create_dir(&taken).unwrap();
        write_at_once(&taken, "new\n").unwrap_err();
        let mut left: Vec<_> = fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["ipfloater.prom", "taken.prom"]);
    }
}
