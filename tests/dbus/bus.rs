//! A real bus of our own: dbus-daemon on a socket in a temporary directory, with
//! the rules of the system bus and the policy that gets installed.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// A dbus-daemon that ends with the test.
pub(crate) struct PrivateBus {
    directory: TempDir,
    daemon: Option<Child>,
}

impl PrivateBus {
    /// With the policy that gets installed.
    #[allow(
        dead_code,
        reason = "not all of the test programs that share this need it"
    )]
    pub(crate) fn start() -> Self {
        Self::start_with(concat!(
            "<include>",
            env!("CARGO_MANIFEST_DIR"),
            "/dbus/org.ipfloater.conf</include>"
        ))
    }

    /// As if nothing of ours had been installed.
    #[allow(
        dead_code,
        reason = "only one of the test programs that share this needs it"
    )]
    pub(crate) fn start_without_policy() -> Self {
        Self::start_with("")
    }

    /// With the policy that gets installed and with polkit's, which somebody
    /// else of root's may stand in for.
    #[allow(
        dead_code,
        reason = "only one of the test programs that share this needs it"
    )]
    pub(crate) fn start_with_polkit() -> Self {
        Self::start_with(concat!(
            "<include>",
            env!("CARGO_MANIFEST_DIR"),
            "/dbus/org.ipfloater.conf</include>",
            r#"<policy user="root"><allow own="org.freedesktop.PolicyKit1"/></policy>"#,
            r#"<policy context="default">"#,
            r#"<allow send_destination="org.freedesktop.PolicyKit1"/></policy>"#
        ))
    }

    /// With the policy that gets installed and with the one that polkit brings.
    #[allow(
        dead_code,
        reason = "only one of the test programs that share this needs it"
    )]
    pub(crate) fn start_with_real_polkit() -> Self {
        Self::start_with(concat!(
            "<include>",
            env!("CARGO_MANIFEST_DIR"),
            "/dbus/org.ipfloater.conf</include>",
            "<include>/usr/share/dbus-1/system.d/org.freedesktop.PolicyKit1.conf</include>"
        ))
    }

    fn start_with(policy: &str) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        // Other users have to reach the socket in it.
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(directory.path(), mode).expect("chmod");
        let mut bus = PrivateBus {
            directory,
            daemon: None,
        };
        fs::write(bus.config(), bus.rules(policy)).expect("the configuration is written");
        bus.restart();
        bus
    }

    pub(crate) fn address(&self) -> String {
        format!("unix:path={}", self.directory.path().join("bus").display())
    }

    pub(crate) fn stop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill().expect("the bus is ours to end");
            daemon.wait().expect("the bus is our child");
        }
        // A killed dbus-daemon leaves its socket, and the next one cannot bind.
        let _ = fs::remove_file(self.directory.path().join("bus"));
    }

    pub(crate) fn restart(&mut self) {
        self.stop();
        let mut daemon = Command::new("dbus-daemon")
            .arg("--config-file")
            .arg(self.config())
            .args(["--nofork", "--nopidfile", "--nosyslog", "--print-address=1"])
            .stdout(Stdio::piped())
            .stderr(self.complaints())
            .spawn()
            .expect("dbus-daemon is installed");
        let printed = daemon.stdout.take().expect("it is piped");
        let mut address = String::new();
        BufReader::new(printed)
            .read_line(&mut address)
            .expect("dbus-daemon prints its address");
        if !address.starts_with("unix:") {
            panic!("{}", fs::read_to_string(self.log()).unwrap_or_default());
        }
        self.daemon = Some(daemon);
    }

    fn complaints(&self) -> File {
        File::create(self.log()).expect("the directory can be written")
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    fn config(&self) -> PathBuf {
        self.directory.path().join("bus.conf")
    }

    /// What /usr/share/dbus-1/system.conf says of who may do what: nothing that
    /// is not allowed. A test that is not run by root may have the name, too.
    fn rules(&self, policy: &str) -> String {
        let uid = nix::unistd::getuid();
        let ours = if uid.is_root() || policy.is_empty() {
            String::new()
        } else {
            format!(r#"<policy user="{uid}"><allow own="org.ipfloater"/></policy>"#)
        };
        let address = self.address();
        format!(
            r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <listen>{address}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <deny own="*"/>
    <deny send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus"/>
  </policy>
  {ours}
  {policy}
</busconfig>
"#,
        )
    }
}

impl Drop for PrivateBus {
    fn drop(&mut self) {
        self.stop();
    }
}
