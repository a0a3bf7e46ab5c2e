//! What is asked of topic views: their owners' side is `owner::views`.

use super::Asking;
use crate::audience::{Audience, Listing};
use crate::desk::{Audit, AuditKind, AuditOutcome, Desk};
use crate::gate::{self, Deed};
use crate::mail::Mail;
use crate::mail::views::{Order, Told};
use crate::owner::{Owner, VIEWS_WRITER, parse_view};
use crate::protocol::{ErrorCode, Refusal};
use crate::wire::native::Outcome;

impl Asking<'_> {
    pub(super) fn create_view(&mut self, name: &str, text: &str) -> Result<(), Refusal> {
        gate::server(self.rights(), Deed::ManageViews)?;
        // Here already, so that a text that is none costs the writer nothing.
        let definition = parse_view(self.desk, text)?;
        let allowed = gate::selected(self.rights(), Deed::Select, &definition.selector);
        self.audience.leave_to_owner(self.desk, self.asker.session, allowed)?;
        let creator = self.audience.creator(self.asker.session);
        let audit = self.audit_view("create_view", name).map(|audit| audit.text("definition", text));
        self.order_view(audit, Order::Create { name: name.into(), text: text.into(), creator });
        Ok(())
    }

    pub(super) fn remove_view(&mut self, name: &str) -> Result<(), Refusal> {
        gate::server(self.rights(), Deed::ManageViews)?;
        let audit = self.audit_view("remove_view", name);
        self.order_view(audit, Order::Remove { name: name.into() });
        Ok(())
    }

    fn audit_view(&self, operation: &str, name: &str) -> Option<Audit> {
        let audit = self.audience.audit(self.desk, self.asker.session, AuditKind::View, AuditOutcome::Done)?;
        Some(audit.text("operation", operation).text("name", name))
    }

    fn order_view(&mut self, audit: Option<Audit>, order: Order) {
        let ticket = self.audience.expect_decision(self.desk, self.asker, audit);
        let to = Told { shard: self.desk.identity.index, ticket };
        self.desk.mail(VIEWS_WRITER, Mail::OrderView { order: Box::new(order), to });
    }

    /// Views in the order of their places behind `after`, as many as fit a message; with a name only that one.
    pub(super) fn list_views(&mut self, after: u64, name: Option<&str>) -> Result<(), Refusal> {
        gate::server(self.rights(), Deed::LookAtViews)?;
        let (places, has_more) = self.owner.view_places(self.desk, after, name);
        if let Some(name) = name.filter(|_| places.is_empty()) {
            return Err(Refusal::new(ErrorCode::NoSuchView, format!("there is no view '{name}'")));
        }
        self.audience.ask_about_views(self.desk, self.asker, places.into(), has_more);
        Ok(())
    }
}

/// The owners have said how the views do.
pub fn list(desk: &mut Desk, owner: &Owner, audience: &mut Audience, listing: &Listing) {
    let Listing { asker, places, has_more, figures } = listing;
    let views = owner.view_entries(places, figures);
    audience.answer(desk, *asker, Ok(Outcome::Views { has_more: *has_more, views }));
}
