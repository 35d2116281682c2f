//! Every method and property, as described and as called.

use ipfloater::api::dbus::{BUS_NAME, INTERFACE, OBJECT_PATH};

use crate::introspection;
use crate::service::{CONTRACT, Row, Service, options, said, texts};

#[tokio::test(flavor = "multi_thread")]
async fn running_introspection_keeps_what_the_interface_file_promises() {
    let service = Service::start().await;
    let running = service.busctl(&["introspect", "--xml-interface", BUS_NAME, OBJECT_PATH]);
    let running = said(running).unwrap();

    let promised = introspection::promises(CONTRACT, INTERFACE);
    assert_eq!(introspection::promises(&running, INTERFACE), promised);
    assert_eq!(promised.len(), 18 + 1 + 4, "{promised:#?}");
}

#[test]
fn every_member_of_the_interface_file_is_described() {
    assert_eq!(introspection::undocumented(CONTRACT), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn busctl_calls_every_method() {
    let service = Service::start().await;
    let call = |method: &str, arguments: &[&str]| service.call(method, arguments).unwrap();
    let uid = nix::unistd::getuid();

    assert_eq!(
        call("Allocate", &["a{sv}", "1", "pool", "s", "default"]),
        format!(
            "a{{sv}} 8 \"floating_ip\" s \"192.0.2.10\" \"pool\" s \"default\" \
             \"state\" s \"allocated\" \"owner\" u {uid} \"allocated_at\" x 1700000000 \
             \"changed\" b true \"revision\" t 1 \"sequence\" t 1"
        )
    );
    assert_eq!(
        call("Associate", &["ssa{sv}", "192.0.2.10", "10.0.0.5", "0"]),
        format!(
            "a{{sv}} 10 \"floating_ip\" s \"192.0.2.10\" \"pool\" s \"default\" \
             \"state\" s \"active\" \"fixed_address\" s \"10.0.0.5\" \"owner\" u {uid} \
             \"allocated_at\" x 1700000000 \"associated_at\" x 1700000000 \
             \"changed\" b true \"revision\" t 2 \"sequence\" t 2"
        )
    );
    assert_eq!(
        call("List", &["a{sv}", "1", "owner", "u", &uid.to_string()]),
        format!(
            "aa{{sv}}s 1 7 \"floating_ip\" s \"192.0.2.10\" \"pool\" s \"default\" \
             \"state\" s \"active\" \"fixed_address\" s \"10.0.0.5\" \"owner\" u {uid} \
             \"allocated_at\" x 1700000000 \"associated_at\" x 1700000000 \"\""
        )
    );
    assert_eq!(
        call("Describe", &["sa{sv}", "192.0.2.11", "0"]),
        "a{sv} 3 \"floating_ip\" s \"192.0.2.11\" \"pool\" s \"default\" \"state\" s \"free\""
    );
    assert_eq!(
        call("Disassociate", &["sa{sv}", "10.0.0.5", "0"]),
        format!(
            "a{{sv}} 9 \"floating_ip\" s \"192.0.2.10\" \"pool\" s \"default\" \
             \"state\" s \"allocated\" \"owner\" u {uid} \"allocated_at\" x 1700000000 \
             \"changed\" b true \"previous_fixed_address\" s \"10.0.0.5\" \
             \"revision\" t 3 \"sequence\" t 3"
        )
    );
    assert_eq!(
        call(
            "Forward",
            &[
                "ssssa{sv}",
                "192.0.2.10",
                "tcp",
                "8000-8009",
                "10.0.0.6",
                "1",
                "fixed_port",
                "u",
                "80",
            ],
        ),
        format!(
            "a{{sv}} 9 \"floating_ip\" s \"192.0.2.10\" \"pool\" s \"default\" \
             \"state\" s \"active\" \"owner\" u {uid} \"allocated_at\" x 1700000000 \
             \"forwards\" aa{{sv}} 1 5 \"fixed_address\" s \"10.0.0.6\" \"fixed_port\" q 80 \
             \"outbound\" s \"router\" \"ports\" s \"8000-8009\" \"protocol\" s \"tcp\" \
             \"changed\" b true \"revision\" t 4 \"sequence\" t 4"
        )
    );
    assert_eq!(
        call(
            "Unforward",
            &["sssa{sv}", "192.0.2.10", "tcp", "8000-8009", "0"]
        ),
        format!(
            "a{{sv}} 8 \"floating_ip\" s \"192.0.2.10\" \"pool\" s \"default\" \
             \"state\" s \"allocated\" \"owner\" u {uid} \"allocated_at\" x 1700000000 \
             \"changed\" b true \"revision\" t 5 \"sequence\" t 5"
        )
    );
    assert_eq!(
        call(
            "Update",
            &[
                "sa{sv}",
                "192.0.2.10",
                "4",
                "label",
                "s",
                "web",
                "description",
                "s",
                "for people",
                "tags",
                "as",
                "2",
                "b",
                "a",
                "protected",
                "b",
                "true",
            ]
        ),
        format!(
            "a{{sv}} 12 \"floating_ip\" s \"192.0.2.10\" \"pool\" s \"default\" \
             \"state\" s \"allocated\" \"owner\" u {uid} \"allocated_at\" x 1700000000 \
             \"label\" s \"web\" \"description\" s \"for people\" \
             \"tags\" as 2 \"a\" \"b\" \"protected\" b true \
             \"changed\" b true \"revision\" t 6 \"sequence\" t 6"
        )
    );
    let found = |filter| call("List", &["a{sv}", "1", filter, "s", "a"]);
    assert!(found("tag").starts_with("aa{sv}s 1 "), "{}", found("tag"));
    assert!(
        found("label").starts_with("aa{sv}s 0 "),
        "{}",
        found("label")
    );
    assert_eq!(
        call("Release", &["sa{sv}", "192.0.2.10", "0"]),
        "a{sv} 6 \"floating_ip\" s \"192.0.2.10\" \"pool\" s \"default\" \"state\" s \"free\" \
         \"changed\" b true \"revision\" t 7 \"sequence\" t 7"
    );
    assert_eq!(
        call("ListPools", &["a{sv}", "0"]),
        "aa{sv} 2 \
         8 \"name\" s \"default\" \"addresses\" as 1 \"192.0.2.10-192.0.2.19\" \
         \"interface\" s \"eth0\" \"routed\" b false \
         \"size\" t 10 \"allocated\" t 0 \"associated\" t 0 \
         \"hardware_addresses\" a{ss} 1 \"60:60:00:00:00:01\" \"192.0.2.10\" \
         7 \"name\" s \"six\" \"addresses\" as 1 \"2001:db8::10-2001:db8::1f\" \
         \"routed\" b true \"size\" t 16 \"allocated\" t 0 \"associated\" t 0 \
         \"hardware_addresses\" a{ss} 1 \"60:60:00:00:00:01\" \"2001:db8::10\""
    );
    assert_eq!(
        call("GetStatus", &["a{sv}", "0"]),
        format!(
            "a{{sv}} 13 \"state\" s \"running\" \"version\" s \"{}\" \
             \"revision\" t 7 \"sequence\" t 7 \"size\" t 26 \"allocated\" t 0 \
             \"associated\" t 0 \"pending\" t 0 \"outside\" as 1 \"eth0\" \
             \"problems\" as 0 \"warnings\" as 0 \"repairs\" t 0 \"simulated\" b true",
            env!("CARGO_PKG_VERSION")
        )
    );
    assert_eq!(
        call("History", &["a{sv}", "1", "limit", "u", "1"]),
        format!(
            "aa{{sv}} 1 7 \"sequence\" t 7 \"revision\" t 7 \"at\" x 1700000000 \
             \"uid\" u {uid} \"via\" s \"dbus\" \"verb\" s \"release\" \
             \"floating_ip\" s \"192.0.2.10\""
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_floating_ip_takes_a_free_one() {
    let service = Service::start().await;
    let client = service.client().await;
    let nothing = options([]);

    let row: Row = client
        .call("Associate", &("", "10.0.0.5", nothing))
        .await
        .unwrap();
    let texts = texts(&row);
    assert_eq!(texts["floating_ip"], "192.0.2.10");
    assert_eq!(texts["fixed_address"], "10.0.0.5");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_list_comes_in_pages_by_cursor() {
    let service = Service::start().await;
    let client = service.client().await;
    for _ in 0..5 {
        let _: Row = client.call("Allocate", &(options([]),)).await.unwrap();
    }

    let mut pages = Vec::new();
    let mut after = String::new();
    loop {
        let mut wanted = options([("limit", 2_u32.into())]);
        if !after.is_empty() {
            wanted.insert("after", after.into());
        }
        let (rows, next): (Vec<Row>, String) = client.call("List", &(wanted,)).await.unwrap();
        let page = rows.iter().map(|row| texts(row)["floating_ip"].clone());
        pages.push(page.collect::<Vec<_>>().join(" "));
        if next.is_empty() {
            break;
        }
        after = next;
    }
    assert_eq!(
        pages,
        [
            "192.0.2.10 192.0.2.11",
            "192.0.2.12 192.0.2.13",
            "192.0.2.14"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_is_read_page_by_page_and_by_address() {
    let service = Service::start().await;
    let client = service.client().await;
    for floating in ["192.0.2.10", "192.0.2.11", "192.0.2.12"] {
        let wanted = options([("floating_ip", floating.into())]);
        let _: Row = client.call("Allocate", &(wanted,)).await.unwrap();
    }

    let before = options([("before", 3_u64.into()), ("limit", 1_u32.into())]);
    let rows: Vec<Row> = client.call("History", &(before,)).await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(texts(&rows[0])["floating_ip"], "192.0.2.11");

    let about = options([("address", "192.0.2.10".into())]);
    let rows: Vec<Row> = client.call("History", &(about,)).await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(texts(&rows[0])["sequence"], "1");

    // Who was cut off goes on after the last event that he knows.
    let after = options([("after", 1_u64.into()), ("limit", 1_u32.into())]);
    let rows: Vec<Row> = client.call("History", &(after,)).await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(texts(&rows[0])["sequence"], "2");
    let rows: Vec<Row> = client
        .call("History", &(options([("after", 3_u64.into())]),))
        .await
        .unwrap();
    assert_eq!(rows.len(), 0);

    let tie = ("192.0.2.12", "10.0.0.5", options([]));
    let _: Row = client.call("Associate", &tie).await.unwrap();
    let by_host = options([("address", "10.0.0.5".into())]);
    let rows: Vec<Row> = client.call("History", &(by_host,)).await.unwrap();
    let verbs = rows.iter().map(|row| texts(row)["verb"].clone());
    assert_eq!(verbs.collect::<Vec<_>>(), ["associate", "allocate"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_properties_can_be_read_and_not_set() {
    let service = Service::start().await;
    let get = |name| {
        said(service.busctl(&["get-property", BUS_NAME, OBJECT_PATH, INTERFACE, name])).unwrap()
    };
    let version = format!("s \"{}\"", env!("CARGO_PKG_VERSION"));
    assert_eq!(get("Version"), version);
    assert_eq!(get("ApiVersion"), "u 1");
    assert_eq!(get("Revision"), "t 0");
    assert_eq!(get("State"), "s \"running\"");

    let set = ["set-property", BUS_NAME, OBJECT_PATH, INTERFACE];
    assert!(said(service.busctl(&[&set[..], &["State", "s", "x"]].concat())).is_err());
    assert_eq!(get("State"), "s \"running\"");
}
