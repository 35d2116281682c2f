//! Installing, starting, and the first call.

use super::machine::Suite;
use super::package::Router;

fn starts(suite: Suite) {
    let router = Router::new(suite);
    let reply = router.run(
        "busctl call org.ipfloater /org/ipfloater org.ipfloater.Manager Associate 'ssa{sv}' '' 10.66.0.11 0",
    );
    println!("{reply}{}", router.run("ipfloater status; journalctl --no-pager -u ipfloaterd; cat /proc/$(pidof ipfloaterd)/status | grep -i -E 'cap|uid'"));
}

#[test]
fn installed_on_trixie_it_is_called_over_the_bus() {
    starts(Suite::Trixie);
}

#[test]
fn installed_on_bookworm_it_is_called_over_the_bus() {
    starts(Suite::Bookworm);
}
