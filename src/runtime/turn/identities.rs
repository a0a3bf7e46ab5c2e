//! Who clients are, and whom the server knows: questions of the shard go to the authenticators, and come back as commands.

use super::Turns;
use crate::base::ConnectionKey;
use crate::mail::messaging::Message;
use crate::mail::security::PrincipalOrder;
use crate::protocol::Refusal;
use crate::runtime::identify::{self, Answered, SessionQuestion};
use crate::runtime::{now, wall_ms};
use crate::shard::Claim;

impl Turns {
    /// Asks the authenticators who a client is.
    pub(super) fn identify(&mut self, key: ConnectionKey, claim: Claim) {
        let (handle, _) = self.settings.authenticators.as_ref().expect("a shard asks where there are authenticators");
        if let Some(answered) = identify::ask(handle, &self.links, usize::from(self.index.0), key, claim) {
            self.identified(answered);
        }
    }

    /// The authenticators ask sessions.
    pub(super) fn ask_sessions(&mut self, question: SessionQuestion) {
        let SessionQuestion { name, question, timeout_ms, reply } = question;
        self.questions += 1;
        self.judging.insert(self.questions, reply);
        self.shard.ask_authenticators(now(), (self.questions, timeout_ms), &name, question);
    }

    pub(super) fn judged(&mut self, number: u64, judged: Result<Message, Refusal>) {
        if let Some(reply) = self.judging.remove(&number) {
            reply(identify::read_judged(judged));
        }
    }

    pub(super) fn change_principals(&mut self, order: PrincipalOrder) {
        let to = order.to;
        let authenticators = self.settings.authenticators.as_ref().expect("principals are kept where there are authenticators");
        if let Err(refusal) = identify::change_principals(authenticators, &self.links, usize::from(self.index.0), order) {
            self.shard.handle_principals(now(), to, Err(refusal));
        }
    }

    pub(super) fn identified(&mut self, answered: Answered) {
        let (now, key) = (now(), answered.key);
        let (identified, news) = answered.judge(now, wall_ms(), now.0 / 1000 % 1000);
        if let Some(news) = news {
            self.logger.log(now, &news);
        }
        self.shard.handle_identified(now, key, identified);
    }
}
