//! What shards say to each other of what roles permit, and of principals: orders and decisions.

use super::views::Told;
use crate::security::{PrincipalScript, SecurityScript, SecurityStore};
use std::sync::Arc;

pub enum Security {
    /// To the one shard that decides: a script, and the principal whose session asks.
    Order { script: SecurityScript, by: Box<str>, checks_only: bool, to: Told },
    /// To every shard, in the order of decisions.
    Decided { store: Arc<SecurityStore>, to: Told },
    /// To the same: a script of principals, whose passwords are hashed elsewhere.
    OrderPrincipals(Box<PrincipalOrder>),
    /// To every shard: the script that makes the principals that there are.
    PrincipalsDecided { script: Arc<str>, to: Told },
}

/// A script of principals that is to be applied, or only looked at.
#[derive(Debug)]
pub struct PrincipalOrder {
    pub script: PrincipalScript,
    pub by: Box<str>,
    pub checks_only: bool,
    pub to: Told,
}

/// No two are the same order.
impl PartialEq for PrincipalOrder {
    fn eq(&self, _: &Self) -> bool {
        false
    }
}

impl Eq for PrincipalOrder {}
