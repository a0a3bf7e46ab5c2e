//! Requests for admin pages. Where clients are asked who they are, each but that for [`http::HEALTH`] waits until it is known who asks, and what he may do.
//!
//! The answer ends the connection, so that nothing behind the request is read.

use super::audit::LATER;
use super::{Doors, Identified, Stage, Unidentified};
use crate::audience::Audience;
use crate::base::ConnectionKey;
use crate::desk::{Claim, Desk, Effect, Shown};
use crate::gate::{self, Deed};
use crate::session::Checked;
use crate::wire::authorization::Authorization;
use crate::wire::http::{self, Request};

impl Doors {
    pub(super) fn take_request(
        &mut self,
        desk: &mut Desk,
        audience: &mut Audience,
        key: ConnectionKey,
        request: Request,
        authorization: Option<Authorization>,
    ) {
        if !desk.limits.authenticates || request.path == http::HEALTH {
            return self.ask_for_page(desk, key, request);
        }
        let (principal, shown) = match authorization {
            None => ("".into(), Shown::Nothing),
            // As in CONNECT.
            Some(Authorization::Basic { user, password }) if password.is_empty() => (user, Shown::Nothing),
            Some(Authorization::Basic { user, password }) => (user, Shown::Password(password)),
            Some(Authorization::Bearer(token)) => ("".into(), Shown::Bearer(token)),
            Some(Authorization::Malformed(why)) => {
                let said = Unidentified { principal: "".into(), why: why.into() };
                self.note_no_page(desk, key, Some(&request), (401, &said));
                return self.respond_text(desk, audience, key, 401, why);
            }
        };
        let (address, certificate) = self.shown_before(key);
        let claim = Claim { principal, shown, address, certificate, properties: Checked::default() };
        self.connections.get_mut(key).expect("its head was just read").stage = Stage::Page(Some(Box::new(request)));
        desk.effects.push(Effect::Identify(key, Box::new(claim)));
    }

    /// It is known who asks for the page that waits.
    pub(super) fn asker_identified(&mut self, desk: &mut Desk, audience: &mut Audience, key: ConnectionKey, identified: Identified) {
        let Some(Stage::Page(request)) = self.connections.get_mut(key).map(|connection| &mut connection.stage) else { return };
        let Some(request) = request.take() else { return };
        match identified {
            Identified::As(who, _) => {
                let rights = audience.rights_of(who.as_deref());
                match needed(&request.path).map_or(Ok(()), |deed| gate::server(&rights, deed)) {
                    Ok(()) => self.ask_for_page(desk, key, *request),
                    Err(refusal) => {
                        let principal = who.map_or("".into(), |who| (*who.principal).into());
                        let said = Unidentified { principal, why: refusal.message.as_str().into() };
                        self.note_no_page(desk, key, Some(&request), (403, &said));
                        self.respond_text(desk, audience, key, 403, &refusal.message);
                    }
                }
            }
            Identified::Refused(said) => {
                self.note_no_page(desk, key, Some(&request), (401, &said));
                let text = "Authorization does not show who asks: Basic takes the name and password of a principal, Bearer a token";
                self.respond_text(desk, audience, key, 401, text);
            }
            Identified::Later { wait_ms, said } => {
                self.note_no_page(desk, key, Some(&request), (LATER, &said));
                let connection = self.connections.get_mut(key).expect("it was just there");
                http::put_later(&mut connection.raw, wait_ms, b"it cannot be said now who you are\n");
                self.end(desk, audience, key);
            }
        }
    }

    fn ask_for_page(&mut self, desk: &mut Desk, key: ConnectionKey, request: Request) {
        self.connections.get_mut(key).expect("its head was read").stage = Stage::Page(None);
        desk.effects.push(Effect::Http(key, request));
    }
}

/// What somebody does who asks for a page; nothing beyond that for most.
fn needed(path: &str) -> Option<Deed> {
    (path == http::LATENCY).then_some(Deed::ViewServer)
}
