//! Uplinks: the ways out that pools name, and the numbers that tell them apart
//! in the kernel.

use std::net::IpAddr;

use super::{Family, InterfaceName};

/// A way out: an outside interface, and whom to hand packets there. Pools that
/// name the same share it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Uplink {
    /// The outside interface; `None` is that of the default route.
    pub interface: Option<InterfaceName>,
    /// The next hops that the configuration names, at most one of a family;
    /// for the others the routes of the interface tell. Sorted.
    pub gateways: Vec<IpAddr>,
}

impl Uplink {
    /// The next hop that the configuration names for a family.
    #[must_use]
    pub fn gateway(&self, family: Family) -> Option<IpAddr> {
        let mut gateways = self.gateways.iter().copied();
        gateways.find(|gateway| Family::of(*gateway) == family)
    }
}

/// Which bits of a packet's mark tell its uplink, and where the routing tables
/// of uplinks begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UplinkNumbers {
    mask: u32,
    tables: u32,
}

/// Why bits or a table are no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UplinkNumbersError {
    /// There is a gap between the bits, or there are none.
    #[error("write bits that are next to each other, such as 0xff000000")]
    Mask,
    /// The number is of one of the kernel's tables, or their rules would come
    /// behind the kernel's own.
    #[error("write a number from 256 to 32000")]
    Table,
}

impl Default for UplinkNumbers {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl UplinkNumbers {
    /// The bits that others seldom use: the highest 8. The tables begin with a
    /// number that recalls our protocol number, 245.
    pub const DEFAULT: Self = Self {
        mask: 0xff00_0000,
        tables: 24_500,
    };

    /// These bits and tables. The kernel's own tables are 253 to 255
    /// (rtnetlink(7)); rules have the same numbers, and must come before the one
    /// for the main table, 32766 (ip-rule(8)).
    pub fn new(mask: u32, tables: u32) -> Result<Self, UplinkNumbersError> {
        let lowest = mask >> mask.trailing_zeros().min(31);
        if mask == 0 || lowest & lowest.wrapping_add(1) != 0 {
            Err(UplinkNumbersError::Mask)
        } else if !(256..=32_000).contains(&tables) {
            Err(UplinkNumbersError::Table)
        } else {
            Ok(Self { mask, tables })
        }
    }

    /// How many uplinks can be told apart: as many as the bits can count, and
    /// as there are numbers of rules left.
    #[must_use]
    pub fn most(self) -> u32 {
        let rules = 32_766 - self.tables - 1;
        (self.mask >> self.mask.trailing_zeros()).min(rules)
    }

    /// The bits of a packet's mark that are ours.
    #[must_use]
    pub fn mask(self) -> u32 {
        self.mask
    }

    /// The mark of the uplink of a number, counted from 1.
    #[must_use]
    pub fn mark(self, number: u32) -> u32 {
        number << self.mask.trailing_zeros()
    }

    /// Its routing table, and the preference of the rule that leads there.
    #[must_use]
    pub fn table(self, number: u32) -> u32 {
        self.tables + number
    }

    /// The preference of the rule that comes before all of them.
    #[must_use]
    pub fn first_rule(self) -> u32 {
        self.tables
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_lie_in_the_mask_and_tables_follow_each_other() {
        let numbers = UplinkNumbers::new(0x0ff0_0000, 1_000).unwrap();
        assert_eq!(numbers.most(), 255);
        assert_eq!(numbers.mark(1), 0x0010_0000);
        assert_eq!(numbers.mark(255), 0x0ff0_0000);
        assert_eq!(numbers.table(2), 1_002);
        assert_eq!(UplinkNumbers::new(u32::MAX, 300).unwrap().most(), 32_465);
        assert_eq!(UplinkNumbers::new(0x8000_0000, 300).unwrap().most(), 1);
        let default = UplinkNumbers::DEFAULT;
        assert_eq!(
            UplinkNumbers::new(default.mask, default.tables),
            Ok(default)
        );
    }

    #[test]
    fn bits_with_a_gap_and_tables_of_the_kernel_are_refused() {
        for mask in [0, 0b101, 0xff00_ff00, 0x8000_0001] {
            let refused = UplinkNumbers::new(mask, 300);
            assert_eq!(refused, Err(UplinkNumbersError::Mask), "{mask:#x}");
        }
        for tables in [0, 253, 255, 32_001, u32::MAX] {
            let refused = UplinkNumbers::new(0xff, tables);
            assert_eq!(refused, Err(UplinkNumbersError::Table), "{tables}");
        }
    }
}
