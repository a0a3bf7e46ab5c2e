//! Fetches of sessions whose paths mean other topics: the owners look where the topics are, and name them as the session does.

use crate::audience::Audience;
use crate::audience::ask::{Answer, Gather};
use crate::base::ShardIndex;
use crate::desk::Desk;
use crate::mail::{Caller, Fetch, Mail, Question};
use crate::session_tree::Region;
use crate::topic::selector::Selector;

impl Audience {
    /// Asks for each region of the session's paths that may hold what the selector matches; the pages are merged as those of several owners are.
    #[cold]
    pub fn fetch_mapped(&mut self, desk: &mut Desk, asker: Caller, selector: &Selector, fetch: Fetch) {
        let mapping = self.trees.mapping_of(asker.session).expect("the session is one that is concerned");
        // Bounded by `session_trees.tables_max`.
        let regions: Vec<(Region, Vec<ShardIndex>)> = mapping
            .regions(selector)
            .into_iter()
            .map(|region| {
                let owners = match selector.exact_path() {
                    Some(path) => vec![desk.owner_of(&mapping.resolve(path))],
                    None => (0..desk.identity.count).map(ShardIndex).collect(),
                };
                (region, owners)
            })
            .collect();
        let ticket = desk.take_ticket();
        let waiting = regions.iter().map(|(_, owners)| owners.len()).sum();
        let answer = Answer::Page { asker, fetch: Box::new(fetch.clone()), pages: Vec::new(), is_thinned: false };
        self.gathers.insert(ticket, Gather::new(waiting, answer));
        for (region, owners) in regions {
            let question = Question::Fetch(Box::new(Fetch { region: Some(Box::new(region)), ..fetch.clone() }));
            for owner in owners {
                desk.mail(owner, Mail::Ask { ticket, question: question.clone() });
            }
        }
    }
}
