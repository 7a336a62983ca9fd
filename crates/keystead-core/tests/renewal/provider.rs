//! A provider of each class, as small as it can be told.

/// How a provider treats refresh tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Class {
    /// One for all renewals.
    Reusable,
    /// A new one each time; the one before lives until the new one is used.
    Rotating,
    /// A new one each time; one that is used again ends the whole family.
    SingleUse,
}

/// A refresh token: of which consent, and the how manieth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Token {
    pub(crate) family: u8,
    pub(crate) number: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Provider {
    pub(crate) class: Class,
    pub(crate) family: u8,
    pub(crate) current: u8,
    /// The one before, which lives until `current` is used.
    pub(crate) before: Option<u8>,
    pub(crate) dead: bool,
}

impl Provider {
    pub(crate) fn honours(&self, token: Token) -> bool {
        let alive = !self.dead && token.family == self.family;
        alive
            && match self.class {
                Class::Reusable => true,
                Class::Rotating => {
                    token.number == self.current || Some(token.number) == self.before
                }
                Class::SingleUse => token.number == self.current,
            }
    }

    /// Carries a call out: the new refresh token, or a refusal.
    pub(crate) fn renew(&mut self, token: Token, next: u8) -> Option<Token> {
        if !self.honours(token) {
            if self.class == Class::SingleUse && token.family == self.family {
                self.dead = true;
            }
            return None;
        }
        match self.class {
            Class::Reusable => return Some(token),
            Class::Rotating => self.before = Some(token.number),
            Class::SingleUse => {}
        }
        self.current = next;
        Some(Token {
            number: next,
            ..token
        })
    }
}
