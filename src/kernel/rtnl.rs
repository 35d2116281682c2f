//! Stands in until the real part arrives.

use crate::dataplane::{IfIndex, Observed};
use crate::model::FloatingIp;

use super::KernelError;

pub(crate) struct Rtnl;

impl Rtnl {
    pub(crate) fn open() -> Result<Self, KernelError> {
        Ok(Self)
    }

    pub(crate) fn observe(&mut self) -> Result<Observed, KernelError> {
        Ok(Observed::default())
    }

    pub(crate) fn present(
        &mut self,
        _: &[(FloatingIp, IfIndex)],
    ) -> Vec<(FloatingIp, KernelError)> {
        Vec::new()
    }

    pub(crate) fn withdraw(
        &mut self,
        _: &[(FloatingIp, IfIndex)],
    ) -> Vec<(FloatingIp, KernelError)> {
        Vec::new()
    }
}
