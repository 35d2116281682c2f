//! Associations and allocations that end by themselves, under traffic.

use std::time::{Duration, Instant};

use ipfloater::model::Family;

use super::lab::{Lab, floating};
use super::talk::{Tcp, Transport, Udp, saw};

#[test]
fn an_association_ends_under_ping_when_its_time_has_come() {
    let lab = Lab::new();
    let daemon = lab.start();
    for family in Family::BOTH {
        let floating = floating(family, 10);
        let fixed = lab.host_a.address(family);
        let outside = lab.outside.address(family);
        let begun = Instant::now();
        daemon.order(&format!("associate {floating} {fixed} --for 4s"));
        let mut asked = lab.outside.converse(Udp, floating).expect("a socket");
        let mut began = lab.host_a.converse(Tcp, outside).expect("a connection");
        assert_eq!(asked.say(), saw(&lab.host_a, outside));
        assert_eq!(began.say(), saw(&lab.outside, floating));
        let mut answered = begun;
        while lab.outside.ping_briefly(floating).is_ok() {
            answered = Instant::now();
            assert!(begun.elapsed() < Duration::from_secs(30), "it does not end");
            std::thread::sleep(Duration::from_millis(50));
        }
        // The end is a whole second of the wall clock, at most one early; it is
        // noticed within a nap of the controller.
        let lasted = answered - begun;
        assert!(
            lasted > Duration::from_millis(2_800) && lasted < Duration::from_secs(15),
            "{family}: {lasted:?}"
        );
        assert_eq!(daemon.state(floating), "allocated");
        let list = match family {
            Family::V4 => "conntrack -L -f ipv4",
            Family::V6 => "conntrack -L -f ipv6",
        };
        // Flows from and to the address; what is asked now is a new one.
        let flows = lab.router.program(list);
        let of_it =
            |line: &&str| line.contains(&floating.to_string()) && line.contains(&fixed.to_string());
        assert_eq!(flows.lines().find(of_it), None);
        let history = daemon.json(&format!("history {floating} -n 2"));
        let events = &history["events"];
        assert_eq!(events[0]["verb"], "disassociate");
        assert_eq!(events[1]["verb"], "expire");
        assert_eq!(events[1]["via"], "daemon");
    }
}

#[test]
fn what_runs_out_while_the_daemon_is_down_is_over_when_it_answers_again() {
    let lab = Lab::new();
    let mut daemon = lab.start();
    for family in Family::BOTH {
        let (first, second) = (floating(family, 10), floating(family, 11));
        let [a, b] = [&lab.host_a, &lab.host_b].map(|host| host.address(family));
        daemon.order(&format!("allocate {first} --for 3s"));
        daemon.order(&format!("associate {first} {a}"));
        daemon.order(&format!("associate {second} {b} --for 1h"));
    }
    daemon.kill();
    std::thread::sleep(Duration::from_millis(3_500));
    for family in Family::BOTH {
        let answer = lab.outside.ask(Transport::BOTH[0], floating(family, 10));
        let expected = saw(&lab.host_a, lab.outside.address(family));
        assert_eq!(answer, expected, "nobody is there to end it");
    }
    daemon.start(&lab.router);
    for family in Family::BOTH {
        let (first, second) = (floating(family, 10), floating(family, 11));
        assert!(lab.outside.ping_briefly(first).is_err());
        assert_eq!(daemon.state(first), "free");
        assert!(lab.outside.ping(second).is_ok());
        let shown = daemon.show(second);
        assert!(shown["association_expires_at"].is_i64(), "{shown}");
    }
}
