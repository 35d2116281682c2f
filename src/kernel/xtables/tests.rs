use proptest::prelude::*;

use super::*;

/// `XT_RETURN`, which ends a chain, and `NF_ACCEPT`, a policy, as verdicts.
const RETURN: i32 = -5;
const ACCEPT: i32 = -2;

fn entry(target: &[u8], said: &[u8]) -> Vec<u8> {
    let mut entry = vec![0; ENTRY + TARGET + 32];
    let length = u16::try_from(entry.len()).unwrap();
    let offset = u16::try_from(ENTRY).unwrap();
    entry[TARGET_OFFSET..NEXT_OFFSET].copy_from_slice(&offset.to_ne_bytes());
    entry[NEXT_OFFSET..NEXT_OFFSET + 2].copy_from_slice(&length.to_ne_bytes());
    let name = ENTRY + TARGET_NAME;
    entry[name..name + target.len()].copy_from_slice(target);
    let word = ENTRY + TARGET;
    entry[word..word + said.len()].copy_from_slice(said);
    entry
}

fn head(name: &str) -> Vec<u8> {
    entry(ERROR, name.as_bytes())
}

fn verdict(verdict: i32) -> Vec<u8> {
    entry(STANDARD, &verdict.to_ne_bytes())
}

/// A rule that leads to the entry with this number.
fn to(number: usize) -> Vec<u8> {
    verdict(i32::try_from(number * (ENTRY + TARGET + 32)).unwrap())
}

fn dnat() -> Vec<u8> {
    entry(b"DNAT", b"")
}

/// A table at hook 0, whose policy is the entry with this number.
fn table(entries: &[Vec<u8>], begin: usize, policy: usize) -> Table {
    let mut info = vec![0; INFO];
    let mut put = |at: usize, value: usize| {
        info[at..at + 4].copy_from_slice(&u32::try_from(value).unwrap().to_ne_bytes());
    };
    let length = entries[0].len();
    put(INFO_HOOKS, 1);
    put(INFO_PLACES, begin * length);
    put(INFO_PLACES + 4 * HOOKS, policy * length);
    put(INFO_NUMBER, entries.len());
    put(INFO_SIZE, entries.len() * length);
    Table {
        name: "nat".to_owned(),
        info,
        entries: entries.concat(),
    }
}

fn goes(name: &str) -> bool {
    name.starts_with("ipfl")
}

#[test]
fn chains_are_known_by_their_first_entries() {
    let table = table(
        &[
            entry(b"DNAT", b"ipfloater-OUTPUT"),
            head("ipfloater-PREROUTING"),
            verdict(RETURN),
            head("ipfl-rule-ab12ef-POSTROUTING"),
            verdict(RETURN),
            head("ERROR"),
        ],
        0,
        0,
    );
    assert_eq!(
        table.chains(),
        ["ipfloater-PREROUTING", "ipfl-rule-ab12ef-POSTROUTING"]
    );
}

#[test]
fn a_chain_goes_with_what_leads_to_it_and_the_rest_is_counted_anew() {
    let before = [
        // The hook begins with a rule that goes.
        to(6),
        // A rule without a target leads to what follows it, which goes.
        to(2),
        to(6),
        to(12),
        verdict(ACCEPT),
        head("ipfloater-PREROUTING"),
        to(9),
        verdict(RETURN),
        head("ipfl-rule-ab12ef-PREROUTING"),
        dnat(),
        verdict(RETURN),
        head("mine"),
        dnat(),
        verdict(RETURN),
        head("ERROR"),
    ];
    let after = [
        to(1),
        to(4),
        verdict(ACCEPT),
        head("mine"),
        dnat(),
        verdict(RETURN),
        head("ERROR"),
    ];
    let before = table(&before, 0, 4);
    assert_eq!(before.jumps(goes), [None, None]);
    let to_mine = before.jumps(|name| name == "ipfl-rule-ab12ef-PREROUTING");
    assert_eq!(to_mine, [Some("ipfloater-PREROUTING".to_owned())]);
    let rest = before.without(goes).unwrap().expect("something goes");
    assert!(rest.entries == after.concat(), "{:?}", rest.stay);
    assert_eq!(rest.stay, [1, 3, 4, 11, 12, 13, 14]);
    let after = table(&after, 0, 2);
    assert_eq!(rest.hooks, after.info[INFO_PLACES..INFO_NUMBER]);
    assert!(after.without(goes).unwrap().is_none(), "once more");
}

#[test]
fn a_table_that_does_not_add_up_is_left_alone() {
    let entries = [
        to(2),
        head("ipfloater-OUTPUT"),
        verdict(RETURN),
        head("ERROR"),
    ];
    let short = {
        let mut table = table(&entries, 0, 0);
        table.entries.truncate(table.entries.len() - 1);
        table
    };
    let wrong_number = {
        let mut table = table(&entries, 0, 0);
        table.info[INFO_NUMBER] += 1;
        table
    };
    let leads_nowhere = table(&[&[verdict(1)], &entries[..]].concat(), 0, 0);
    for table in [short, wrong_number, leads_nowhere] {
        assert!(table.without(goes).is_err());
    }
}

proptest! {
    #[test]
    fn no_bytes_whatever_make_reading_panic_or_hang(
        entries in proptest::collection::vec(0_u8..130, 0..600),
        info in proptest::collection::vec(any::<u8>(), INFO),
    ) {
        let (name, most) = ("nat".to_owned(), entries.len() / ENTRY);
        let table = Table { name, info, entries };
        prop_assert!(table.chains().len() <= most);
        prop_assert!(table.jumps(|_| true).len() <= most);
        let _ = table.without(|_| true);
    }
}
