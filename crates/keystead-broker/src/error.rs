//! What can go wrong in a use case. A variant names the fault; the message for the client and the
//! context for the log are two fields, and neither ever holds a credential.

use std::borrow::Cow;

use keystead_core::action::Action;

/// A fault in one field of what was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldFault {
    /// Where, as a dotted path from the body's root (`credentials.api_key`).
    pub path: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl FieldFault {
    /// A fault at a path.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> FieldFault {
        FieldFault {
            path: path.into(),
            message: message.into(),
        }
    }
}

/// A use case did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No caller, or none that could be proven. All cases look alike from outside.
    #[error("authentication is required")]
    Unauthenticated,
    /// A caller who may see the thing may not do this to it.
    #[error("not allowed to {action} here")]
    Denied {
        /// What was asked for.
        action: Action,
        /// Why, for the caller: which role or scope would do.
        message: &'static str,
    },
    /// It does not exist, or the caller may not know that it does.
    #[error("not found: {what}")]
    NotFound {
        /// The kind of thing.
        what: &'static str,
    },
    /// It clashes with what is there.
    #[error("{message}")]
    Conflict {
        /// A word for programs.
        code: &'static str,
        /// What clashes, and what to do.
        message: Cow<'static, str>,
        /// Ids among which to choose, where there are several.
        among: Vec<String>,
    },
    /// `If-Match` names another revision than the present one.
    #[error("the thing was changed since it was read: read it again and repeat the change")]
    Precondition,
    /// The request as a whole cannot be read.
    #[error("{0}")]
    Malformed(Cow<'static, str>),
    /// It can be read, and fields are wrong.
    #[error("some fields are wrong")]
    Invalid(Vec<FieldFault>),
    /// More bytes than are taken.
    #[error("too large: at most {most} bytes are taken")]
    TooLarge {
        /// The limit.
        most: u64,
    },
    /// Too many requests.
    #[error("too many requests: repeat after {retry_after} s")]
    Limited {
        /// Whole seconds to wait.
        retry_after: u64,
    },
    /// Something that is needed is away for the moment: store, KMS, change feed.
    #[error("{what} is not available now: repeat shortly")]
    Unavailable {
        /// What is away.
        what: &'static str,
        /// For the log.
        context: String,
    },
    /// The provider could not be reached, or is not to be reached from here.
    #[error("the provider could not be reached: {reason}")]
    Upstream {
        /// Why, with no detail of the request.
        reason: Cow<'static, str>,
    },
    /// The provider did not answer in time.
    #[error("the provider did not answer in time")]
    UpstreamTimeout,
    /// The provider answered, and nothing can be done with the answer.
    #[error("{message}")]
    Provider {
        /// A word for programs.
        code: &'static str,
        /// What it did and what to do, with none of its own words but an error code.
        message: Cow<'static, str>,
    },
    /// The credential cannot be placed as it is.
    #[error("the credential does not work for this call: {reason}")]
    Credential {
        /// Why, without any part of it.
        reason: Cow<'static, str>,
    },
    /// A sealed value does not open.
    #[error("a sealed value of {record} does not open: it was changed or moved")]
    Corrupt {
        /// The record's id.
        record: String,
    },
    /// A fault of this program.
    #[error("internal error")]
    Internal {
        /// For the log.
        context: String,
    },
}

impl Error {
    /// A fault of this program, with what to log.
    pub fn internal(context: impl Into<String>) -> Error {
        Error::Internal {
            context: context.into(),
        }
    }

    /// One wrong field.
    pub fn field(path: impl Into<String>, message: impl Into<String>) -> Error {
        Error::Invalid(vec![FieldFault::new(path, message)])
    }

    /// A clash.
    pub fn conflict(code: &'static str, message: impl Into<Cow<'static, str>>) -> Error {
        Error::Conflict {
            code,
            message: message.into(),
            among: Vec::new(),
        }
    }

    /// What the log and whoever runs the installation are told beside the message.
    pub fn context(&self) -> Option<&str> {
        match self {
            Error::Unavailable { context, .. } | Error::Internal { context } => Some(context),
            _ => None,
        }
    }

    /// The answer for an integration that is switched off.
    pub(crate) fn disabled() -> Error {
        Error::conflict(
            "disabled",
            "the integration is disabled: enable it to use it",
        )
    }

    /// The answer for a name that the tenant gave already.
    pub(crate) fn duplicate_name() -> Error {
        Error::conflict(
            "duplicate_name",
            "the tenant already has an integration of this name: choose another, or change that one",
        )
    }

    /// A short word for the fault, as entries say it.
    pub const fn word(&self) -> &'static str {
        match self {
            Error::Unauthenticated => "unauthenticated",
            Error::Denied { .. } => "denied",
            Error::NotFound { .. } => "not found",
            Error::Conflict { .. } => "conflict",
            Error::Precondition => "precondition",
            Error::Malformed(_) => "malformed",
            Error::Invalid(_) => "invalid",
            Error::TooLarge { .. } => "too large",
            Error::Limited { .. } => "limited",
            Error::Unavailable { .. } => "unavailable",
            Error::Upstream { .. } => "upstream unreachable",
            Error::UpstreamTimeout => "upstream timeout",
            Error::Provider { .. } => "upstream answer",
            Error::Credential { .. } => "credential unusable",
            Error::Corrupt { .. } => "corrupt",
            Error::Internal { .. } => "internal",
        }
    }
}

impl From<keystead_core::provider::FieldFault> for FieldFault {
    fn from(fault: keystead_core::provider::FieldFault) -> FieldFault {
        FieldFault {
            path: fault.path,
            message: fault.message,
        }
    }
}

impl From<keystead_store::Error> for Error {
    fn from(fault: keystead_store::Error) -> Error {
        use keystead_store::Error as Store;
        match fault {
            Store::Conflict { .. } => Error::conflict(
                "conflict",
                "it was changed in between: read it again and repeat",
            ),
            Store::Duplicate { .. } => Error::conflict("duplicate", "there already is one"),
            Store::NotFound { what } => Error::NotFound { what },
            Store::Invalid { .. } => Error::Malformed(
                "a value holds characters that cannot be stored (such as NUL)".into(),
            ),
            Store::Unavailable { .. } => Error::Unavailable {
                what: "the store",
                context: format!("{fault:?}"),
            },
            Store::Corrupt { what } => Error::Corrupt {
                record: what.to_owned(),
            },
            other => Error::internal(other.to_string()),
        }
    }
}
