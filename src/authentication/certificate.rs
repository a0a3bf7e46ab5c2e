//! Whoever showed a certificate is let in as its principal, with the roles that the configuration gives to such names.
//!
//! That the certificate is good, and whose it is, was checked with the connection. Who says that he is somebody else than his certificate says is left to
//! the rest of the chain, as is a name that no row gives roles.

use super::{Allowed, Question, Verdict};
use crate::config::NameRoles;

pub fn check(rows: &[NameRoles], question: &Question) -> Verdict {
    let Some(name) = &question.certificate else { return Verdict::Abstain };
    if !question.principal.is_empty() && question.principal != *name {
        return Verdict::Abstain;
    }
    let mut roles: Vec<Box<str>> = Vec::new();
    let mut has_row = false;
    for row in rows.iter().filter(|row| row.has(name)) {
        has_row = true;
        roles.extend(row.roles.iter().filter(|role| !roles.contains(role)).cloned().collect::<Vec<_>>());
    }
    if !has_row {
        return Verdict::Abstain;
    }
    Verdict::Allow(Allowed { principal: name.clone(), roles, ..Allowed::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authentication::tests::question;

    /// No certificate where its name is empty; nobody is let in where no roles are expected.
    fn check_rows(texts: &[&str], certificate: &str, principal: &str, expected: Option<&[&str]>) {
        let rows: Vec<NameRoles> = texts.iter().map(|text| NameRoles::parse(text).expect(text)).collect();
        let shown = (!certificate.is_empty()).then(|| Box::from(certificate));
        let roles = match check(&rows, &Question { certificate: shown, ..question(principal) }) {
            Verdict::Allow(allowed) => Some(allowed.roles),
            Verdict::Abstain => None,
            Verdict::Deny(denial) => panic!("{denial}"),
        };
        let expected = expected.map(|roles| roles.iter().map(|role| Box::from(*role)).collect::<Vec<_>>());
        assert_eq!(roles, expected, "{texts:?} {certificate}");
    }

    #[test]
    fn names_get_the_roles_of_all_rows_that_have_them() {
        let rows = ["*.devices.example: CLIENT", "a.devices.example: TOPIC_CONTROL CLIENT", "CN=*: OPERATOR"];
        check_rows(&rows, "a.devices.example", "", Some(&["CLIENT", "TOPIC_CONTROL"]));
        check_rows(&rows, "b.devices.example", "b.devices.example", Some(&["CLIENT"]));
        check_rows(&rows, "CN=x", "", Some(&["OPERATOR"]));
        check_rows(&["*:"], "anybody", "", Some(&[]));
    }

    #[test]
    fn others_are_left_to_the_rest_of_the_chain() {
        let rows = ["*.devices.example: CLIENT"];
        check_rows(&rows, "devices.example", "", None);
        check_rows(&rows, "a.devices.example", "admin", None);
        check_rows(&rows, "", "", None);
        check_rows(&[], "a", "", None);
    }
}
