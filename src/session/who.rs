//! Who a session's client is, as an authenticator has said.

use crate::base::Time;
use crate::topic::session_filter::put_roles;
use std::sync::Arc;

/// A principal, what it may by name, and until when that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// Empty of an anonymous client.
    pub principal: Arc<str>,
    /// As the property `$Roles` has them: quoted, in the order of their names.
    pub roles: Box<str>,
    pub expires: Option<Time>,
}

impl Who {
    /// `None` where there is nothing to say: an anonymous client without roles.
    pub fn new(principal: Arc<str>, mut roles: Vec<Box<str>>, expires: Option<Time>) -> Option<Box<Self>> {
        roles.sort_unstable();
        roles.dedup();
        let is_nobody = principal.is_empty() && roles.is_empty() && expires.is_none();
        (!is_nobody).then(|| Box::new(Self { principal, roles: put_roles(&roles).into(), expires }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_quoted_each_once_in_their_order() {
        let who = Who::new("ann".into(), vec!["b".into(), r#"a "c""#.into(), "b".into()], None).unwrap();
        assert_eq!((&*who.principal, &*who.roles), ("ann", r#""a \"c\"" "b""#));
        assert_eq!(Who::new("".into(), Vec::new(), None), None);
        assert!(Who::new("".into(), vec!["a".into()], None).is_some());
    }
}
