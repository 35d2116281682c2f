//! Stop after every step in turn, start again, and expect the same end.
//!
//! A step is an operation on the kernel. The fuse of the kernel in memory lets
//! so many succeed and fails all that follow without doing anything, which is
//! what a process that died leaves behind; then a new controller starts on the
//! same store and the same kernel.

mod common;

use common::{Running, allocate, associate, disassociate, forward, release, unforward};
use ipfloater::kernel::FakeKernel;
use ipfloater::request::Request;
use tempfile::TempDir;

type Step = fn() -> Request;

/// Every verb, on addresses of both families, with moves and displacements.
const SCENARIO: [Step; 17] = [
    || allocate("198.51.100.7"),
    || associate("198.51.100.7", "10.0.0.5"),
    || associate("2001:db8::7", "fd00::5"),
    || associate("198.51.100.7", "10.0.0.6"),
    || associate("198.51.100.8", "10.0.0.6"),
    || disassociate("198.51.100.8"),
    || associate("198.51.100.8", "10.0.0.5"),
    || release("2001:db8::7"),
    || associate("198.51.100.7", "10.0.0.5"),
    || forward("198.51.100.7", "80/tcp -> 10.0.0.9:8080, outbound floating"),
    || forward("2001:db8::8", "5000-5200/udp -> [fd00::9]:5000"),
    || forward("2001:db8::8", "5000-5200/udp -> [fd00::8]:6000"),
    || forward("198.51.100.7", "80/tcp -> 10.0.0.6:80"),
    || associate("198.51.100.7", "10.0.0.9"),
    || disassociate("198.51.100.7"),
    || unforward("198.51.100.7", "80/tcp"),
    || release("2001:db8::8"),
];

/// The kernel after the first `requests` of the scenario, never interrupted.
fn uninterrupted(requests: usize) -> String {
    let (kernel, directory) = (FakeKernel::simulated(), TempDir::new().unwrap());
    let running = Running::start(&kernel, directory.path());
    for request in &SCENARIO[..requests] {
        running.ask(request()).expect("the scenario is granted");
    }
    running.stop();
    kernel.to_text()
}

#[test]
fn whichever_step_is_the_last_the_next_start_ends_where_it_should() {
    for requests in 1..=SCENARIO.len() {
        let expected = uninterrupted(requests);
        for steps in 0.. {
            let (kernel, directory) = (FakeKernel::simulated(), TempDir::new().unwrap());
            let running = Running::start(&kernel, directory.path());
            for request in &SCENARIO[..requests - 1] {
                running.ask(request()).expect("the scenario is granted");
            }
            kernel.set_fuse(Some(steps));
            running
                .ask(SCENARIO[requests - 1]())
                .expect("it is committed, whatever the kernel does");
            let burnt = kernel.fuse() == Some(0);
            running.stop();

            kernel.set_fuse(None);
            let again = Running::start(&kernel, directory.path());
            assert_eq!(
                kernel.to_text(),
                expected,
                "request {requests}, died after {steps} steps"
            );
            again.stop();
            if !burnt {
                break;
            }
        }
    }
}

#[test]
fn a_kernel_that_forgot_everything_is_told_again() {
    let (kernel, directory) = (FakeKernel::simulated(), TempDir::new().unwrap());
    let running = Running::start(&kernel, directory.path());
    for request in SCENARIO {
        running.ask(request()).unwrap();
    }
    running.stop();
    let rebooted = FakeKernel::simulated();
    Running::start(&rebooted, directory.path()).stop();
    assert_eq!(rebooted.to_text(), kernel.to_text());
}
