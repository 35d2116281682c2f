//! Everything that is no plain yes is a refusal, within its time.

use std::os::fd::{FromRawFd, OwnedFd};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipfloater::authority::{
    Action, Details, Origin, Policy, Polkit, Question, Subject, Unanswered, Verb, Verdict,
};

use crate::bus::PrivateBus;
use crate::stand_in::{PATIENCE, Says, StandIn};

const QUIET: Duration = Duration::from_millis(300);
const PROMPT: Duration = Duration::from_millis(900);

fn polkit(bus: &PrivateBus) -> Polkit {
    Polkit::on(Some(bus.address())).with_times(QUIET, PROMPT)
}

/// A caller by varlink who does nothing, until the test ends.
struct Caller(Child);

impl Caller {
    fn start() -> Self {
        Caller(Command::new("sleep").arg("60").spawn().unwrap())
    }

    #[allow(unsafe_code)]
    fn subject(&self) -> Subject {
        let pid = i32::try_from(self.0.id()).unwrap();
        // SAFETY: pidfd_open(2) takes two numbers and returns a new descriptor.
        let process = unsafe {
            let fd = nix::libc::syscall(nix::libc::SYS_pidfd_open, pid, 0);
            OwnedFd::from_raw_fd(i32::try_from(fd).unwrap())
        };
        Subject {
            uid: 65_534,
            origin: Origin::Peer {
                pid,
                process: Some(Arc::new(process)),
            },
        }
    }

    fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.end();
    }
}

fn question(caller: &Caller, interactive: bool) -> Question {
    Question {
        subject: caller.subject(),
        action: Action::AllocateOwn,
        details: Details::none(Verb::Allocate),
        interactive,
    }
}

#[test]
fn polkits_word_is_taken_as_it_is() {
    let bus = PrivateBus::start_with_polkit();
    let stand_in = StandIn::start(&bus, Says::Yes, Says::Yes);
    let (polkit, caller) = (polkit(&bus), Caller::start());
    for (says, verdict) in [
        (Says::Yes, Verdict::Yes),
        (Says::No, Verdict::No),
        (Says::Challenge, Verdict::Challenge),
    ] {
        stand_in.say(says, Says::No);
        let judged = stand_in
            .runtime
            .block_on(polkit.judge(question(&caller, false)));
        assert_eq!(judged, Ok(verdict));
    }
    let asked = stand_in.asked().remove(0);
    assert_eq!(asked.kind, "unix-process");
    assert!(
        ["pidfd", "uid"]
            .iter()
            .all(|key| asked.subject.contains(&(*key).to_owned())),
        "{:?}",
        asked.subject
    );
    assert_eq!(asked.action, "org.ipfloater.allocate-own");
    assert_eq!(asked.details["verb"], "allocate");
}

#[test]
fn an_error_is_a_refusal() {
    let bus = PrivateBus::start_with_polkit();
    let stand_in = StandIn::start(&bus, Says::Error, Says::Error);
    let judged = stand_in
        .runtime
        .block_on(polkit(&bus).judge(question(&Caller::start(), false)));
    assert!(
        matches!(&judged, Err(Unanswered::Unreachable(why)) if why.contains("no such action")),
        "{judged:?}"
    );
}

#[test]
fn a_polkit_that_hangs_is_a_refusal_within_its_time() {
    let bus = PrivateBus::start_with_polkit();
    let stand_in = StandIn::start(&bus, Says::Later, Says::Later);
    let (polkit, caller) = (polkit(&bus), Caller::start());
    for (interactive, limit) in [(false, QUIET), (true, PROMPT)] {
        let started = Instant::now();
        let judged = stand_in
            .runtime
            .block_on(polkit.judge(question(&caller, interactive)));
        assert_eq!(judged, Err(Unanswered::Silent));
        assert!(started.elapsed() >= limit && started.elapsed() < limit + Duration::from_secs(5));
        stand_in.is_cancelled(stand_in.asked().last().unwrap());
    }
}

#[test]
fn a_polkit_or_a_bus_that_is_absent_is_a_refusal_until_it_comes() {
    let mut bus = PrivateBus::start_with_polkit();
    let mut stand_in = StandIn::start(&bus, Says::Yes, Says::Yes);
    stand_in.vanish();
    let (polkit, caller) = (polkit(&bus), Caller::start());
    let judge = |stand_in: &StandIn| {
        stand_in
            .runtime
            .block_on(polkit.judge(question(&caller, false)))
    };
    assert!(matches!(judge(&stand_in), Err(Unanswered::Unreachable(_))));
    bus.stop();
    assert!(matches!(judge(&stand_in), Err(Unanswered::Unreachable(_))));
    bus.restart();
    stand_in.appear(&bus);
    assert_eq!(judge(&stand_in), Ok(Verdict::Yes));
}

#[test]
fn a_polkit_that_was_restarted_under_a_question_is_asked_once_more() {
    let bus = PrivateBus::start_with_polkit();
    let mut stand_in = StandIn::start(&bus, Says::Challenge, Says::Later);
    let polkit = Arc::new(Polkit::on(Some(bus.address())).with_times(PATIENCE, PATIENCE));
    let (caller, asking) = (Caller::start(), Arc::clone(&polkit));
    let question = question(&caller, true);
    let judged = stand_in
        .runtime
        .spawn(async move { asking.judge(question).await });
    stand_in.prompt();
    stand_in.restart(&bus, Says::Yes, Says::Yes);
    assert_eq!(stand_in.runtime.block_on(judged).unwrap(), Ok(Verdict::Yes));
    assert_eq!(stand_in.asked().len(), 2);
}

#[test]
fn a_yes_to_a_caller_who_has_ended_is_a_refusal() {
    let bus = PrivateBus::start_with_polkit();
    let stand_in = StandIn::start(&bus, Says::Challenge, Says::Later);
    let polkit = Polkit::on(Some(bus.address())).with_times(PATIENCE, PATIENCE);
    let mut caller = Caller::start();
    let question = question(&caller, true);
    let judged = stand_in
        .runtime
        .spawn(async move { polkit.judge(question).await });
    stand_in.prompt();
    caller.end();
    stand_in.go_on();
    let judged = stand_in.runtime.block_on(judged).unwrap();
    assert_eq!(judged, Err(Unanswered::Gone));
}

#[test]
fn a_polkit_that_takes_no_pidfd_is_not_asked_about_a_process() {
    let bus = PrivateBus::start_with_polkit();
    let stand_in = StandIn::start_as("122", &bus, Says::Yes, Says::Yes);
    let judged = stand_in
        .runtime
        .block_on(polkit(&bus).judge(question(&Caller::start(), false)));
    assert_eq!(judged, Err(Unanswered::Unidentified));
    assert!(stand_in.asked().is_empty());
}
