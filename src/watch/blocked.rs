//! [`BlockedStatus`]: what the guard blocks of a cohort, for the log, notifications and the dashboard.

use crate::dashboard::BlockedView;

/// Changes of a cohort that the guard blocked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockedStatus {
    /// Each with its reason and remedies.
    pub blocks: Vec<BlockedView>,
    /// The digest of the whole plan, which an approval names.
    pub digest: String,
    /// The command that approves exactly this plan, if one can.
    pub approve_command: Option<String>,
    /// The number of blocked additions. None: users still enter.
    pub adds: Option<u64>,
    /// The number of blocked removals. None: members still leave.
    pub removes: Option<u64>,
}

impl BlockedStatus {
    /// The blocks and the commands in one line.
    pub(super) fn text(&self) -> String {
        std::iter::once(self.summary()).chain(self.hints()).collect::<Vec<_>>().join("; ")
    }

    /// What is blocked, without remedies.
    pub(super) fn summary(&self) -> String {
        self.blocks.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }

    /// What to do.
    pub(super) fn hints(&self) -> Vec<String> {
        let remedies = self.blocks.iter().flat_map(|block| &block.remedies).map(ToString::to_string);
        let approve =
            self.approve_command.iter().map(|command| format!("to approve exactly this plan: {command}"));
        remedies.chain(approve).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dashboard::RemedyView;

    #[test]
    fn the_text_of_a_blocked_cohort_has_all_remedies() {
        let remedy = |text: &str, command: Option<&str>| RemedyView {
            text: text.to_owned(),
            command: command.map(str::to_owned),
        };
        let blocks = vec![BlockedView {
            code: "removed_share",
            side: "removals",
            reason: "45 of 50 members would leave".to_owned(),
            remedies: vec![
                remedy("for all runs: raise `guard.max_removed`", None),
                remedy("look", Some("syncline plan")),
            ],
        }];
        let blocked = BlockedStatus {
            blocks,
            digest: "sha256:0".to_owned(),
            approve_command: Some("syncline approve carts --plan sha256:0".to_owned()),
            adds: None,
            removes: Some(45),
        };
        let expected = "removals blocked: 45 of 50 members would leave; for all runs: raise `guard.max_removed`; \
                        look: syncline plan; to approve exactly this plan: syncline approve carts --plan sha256:0";
        assert_eq!(blocked.text(), expected);
    }
}
