//! What sessions ask of topic views: their owners' side is `owner::views`.

use super::Shard;
use crate::audience::Listing;
use crate::mail::views::{Order, Told};
use crate::mail::{Asker, Mail};
use crate::owner::{VIEWS_WRITER, parse_view};
use crate::protocol::{ErrorCode, Refusal};
use crate::wire::native::Outcome;

impl Shard {
    pub(super) fn create_view(&mut self, asker: Asker, name: &str, text: &str) -> Result<(), Refusal> {
        // Here already, so that a text that is none costs the writer nothing.
        parse_view(&self.desk, text)?;
        self.order_view(asker, Order::Create { name: name.into(), text: text.into() });
        Ok(())
    }

    pub(super) fn remove_view(&mut self, asker: Asker, name: &str) {
        self.order_view(asker, Order::Remove { name: name.into() });
    }

    fn order_view(&mut self, asker: Asker, order: Order) {
        let ticket = self.audience.expect_decision(&mut self.desk, asker);
        let to = Told { shard: self.desk.identity.index, ticket };
        self.desk.mail(VIEWS_WRITER, Mail::OrderView { order: Box::new(order), to });
    }

    /// The owners have said how the views do.
    pub(super) fn list(&mut self, listing: &Listing) {
        let Listing { asker, places, has_more, figures } = listing;
        let views = self.owner.view_entries(places, figures);
        self.audience.answer(&mut self.desk, *asker, Ok(Outcome::Views { has_more: *has_more, views }));
    }

    /// Views in the order of their places behind `after`, as many as fit a message; with a name only that one.
    pub(super) fn list_views(&mut self, asker: Asker, after: u64, name: Option<&str>) -> Result<(), Refusal> {
        let (places, has_more) = self.owner.view_places(&self.desk, after, name);
        if let Some(name) = name.filter(|_| places.is_empty()) {
            return Err(Refusal::new(ErrorCode::NoSuchView, format!("there is no view '{name}'")));
        }
        self.audience.ask_about_views(&mut self.desk, asker, places.into(), has_more);
        Ok(())
    }
}
