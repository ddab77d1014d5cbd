//! The notation in which messages are described, once each.
//!
//! ```text
//! messages! {
//!     Metadata: MetadataRequest => MetadataResponse;       the API, and its two messages
//!
//!     /// What it is.
//!     struct MetadataRequestTopic {
//!         topic_id: Uuid [10.., ignorable],                a field and its versions
//!         name: Option<ByteString> [0.., null 10..],       …that may be null from version 10 on
//!         leader_epoch: i32 = -1 [7..],                    …with a default
//!         epoch: i64 = -1 [3.., tag 1],                    …a tagged field
//!     }
//! }
//! ```
//!
//! A field that a version does not have is read as its default. When it is written, it must have its
//! default, or be `ignorable`; otherwise the version cannot say what is meant, which is an error. A
//! tagged field is written only where it differs from its default. Tags are listed in their order. An
//! `Option` is null by default. The names are Kafka's.

use super::{super::api::ApiKey, wire::Wire};

/// The whole body of a request or of a response.
pub trait Message: Wire {
    /// The API that it belongs to.
    const API: ApiKey;
}

/// A request, and what answers it.
pub trait Request: Message {
    /// Its answer.
    type Response: Message;
}

/// Whether a field is set.
#[inline]
pub(crate) fn differs<T: PartialEq>(value: &T, default: &T) -> bool {
    value != default
}

macro_rules! messages {
    (
        $api:ident: $request:ident => $response:ident;
        $(
            $(#[$struct_meta:meta])*
            struct $name:ident {
                $(
                    $(#[$field_meta:meta])*
                    $field:ident: $type:ty $(= $default:literal)? [$($shape:tt)*]
                ),* $(,)?
            }
        )*
    ) => {
        impl $crate::gateway::codec::Message for $request {
            const API: $crate::gateway::api::ApiKey = $crate::gateway::api::ApiKey::$api;
        }

        impl $crate::gateway::codec::Message for $response {
            const API: $crate::gateway::api::ApiKey = $crate::gateway::api::ApiKey::$api;
        }

        impl $crate::gateway::codec::Request for $request {
            type Response = $response;
        }

        $(
            $(#[$struct_meta])*
            #[derive(Clone, Debug, PartialEq, Eq)]
            pub struct $name {
                $(
                    $(#[$field_meta])*
                    #[doc = concat!("\n\nVersions `", stringify!($($shape)*), "`.")]
                    pub $field: $type
                ),*
            }

            impl Default for $name {
                fn default() -> Self {
                    Self { $($field: default_of!($type $(, $default)?)),* }
                }
            }

            impl $crate::gateway::codec::Wire for $name {
                fn decode(
                    decoder: &mut $crate::gateway::codec::Decoder,
                ) -> Result<Self, $crate::gateway::codec::DecodeError> {
                    let version = decoder.version();
                    let mut this = Self::default();
                    $(
                        decoder.field(concat!(stringify!($name), ".", stringify!($field)));
                        decode_field!(decoder, version, this.$field, [$($shape)*]);
                    )*
                    if version.flexible {
                        decoder.field(concat!(stringify!($name), "'s tagged fields"));
                        for _ in 0..decoder.tags()? {
                            let tag = decoder.tag()?;
                            $(decode_tagged!(decoder, version, tag, this.$field, [$($shape)*]);)*
                            decoder.skip(tag);
                        }
                    }
                    Ok(this)
                }

                fn encode(
                    &self,
                    encoder: &mut $crate::gateway::codec::Encoder<'_>,
                ) -> Result<(), $crate::gateway::codec::EncodeError> {
                    let version = encoder.version();
                    $(
                        encoder.field(concat!(stringify!($name), ".", stringify!($field)));
                        encode_field!(
                            encoder, version, self.$field,
                            default_of!($type $(, $default)?), [$($shape)*]
                        );
                    )*
                    if version.flexible {
                        let count = 0 $(+ count_tagged!(
                            version, self.$field,
                            default_of!($type $(, $default)?), [$($shape)*]
                        ))*;
                        encoder.tags(count);
                        $(encode_tagged!(
                            encoder, version, self.$field,
                            default_of!($type $(, $default)?), [$($shape)*]
                        );)*
                    }
                    Ok(())
                }

                fn least(version: $crate::gateway::api::Version) -> usize {
                    usize::from(version.flexible) $(+ least_of!(version, $type, [$($shape)*]))*
                }
            }

            #[cfg(any(test, feature = "sim"))]
            impl $crate::gateway::codec::sample::Sample for $name {
                fn sample(
                    rng: &mut flumen_runtime::rng::Rng,
                    version: $crate::gateway::api::Version,
                ) -> Self {
                    let mut this = Self::default();
                    $(sample_field!(rng, version, this.$field, [$($shape)*]);)*
                    this
                }
            }
        )*
    };
}

macro_rules! default_of {
    ($type:ty) => {
        <$type>::default()
    };
    ($type:ty, $default:literal) => {
        $default
    };
}

macro_rules! decode_field {
    ($decoder:ident, $version:ident, $this:ident.$field:ident, [$in:pat, tag $($rest:tt)*]) => {};
    ($decoder:ident, $version:ident, $this:ident.$field:ident,
     [$in:pat, null $null:pat $(, ignorable)?]) => {
        if matches!($version.number, $in) {
            $this.$field = $crate::gateway::codec::Wire::decode($decoder)?;
            if $this.$field.is_none() && !matches!($version.number, $null) {
                return Err($decoder.error($crate::gateway::codec::DecodeReason::Null));
            }
        }
    };
    ($decoder:ident, $version:ident, $this:ident.$field:ident, [$in:pat $(, ignorable)?]) => {
        if matches!($version.number, $in) {
            $this.$field = $crate::gateway::codec::Wire::decode($decoder)?;
        }
    };
}

macro_rules! decode_tagged {
    ($decoder:ident, $version:ident, $found:ident, $this:ident.$field:ident,
     [$in:pat, tag $tag:literal $(, ignorable)?]) => {
        if $found.number == $tag && matches!($version.number, $in) {
            $this.$field = $decoder.tagged($found)?;
            continue;
        }
    };
    ($decoder:ident, $version:ident, $found:ident, $this:ident.$field:ident,
     [$($untagged:tt)*]) => {};
}

macro_rules! encode_field {
    ($encoder:ident, $version:ident, $this:ident.$field:ident, $default:expr,
     [$in:pat, tag $tag:literal, ignorable]) => {};
    ($encoder:ident, $version:ident, $this:ident.$field:ident, $default:expr,
     [$in:pat, tag $tag:literal]) => {
        if !matches!($version.number, $in)
            && $crate::gateway::codec::message::differs(&$this.$field, &$default)
        {
            return Err($encoder.error($crate::gateway::codec::EncodeReason::Lost));
        }
    };
    ($encoder:ident, $version:ident, $this:ident.$field:ident, $default:expr,
     [$in:pat, null $null:pat $(, $($ignorable:tt)*)?]) => {
        if matches!($version.number, $in)
            && $this.$field.is_none() && !matches!($version.number, $null)
        {
            return Err($encoder.error($crate::gateway::codec::EncodeReason::Null));
        }
        encode_field!(
            $encoder, $version, $this.$field, $default, [$in $(, $($ignorable)*)?]
        );
    };
    ($encoder:ident, $version:ident, $this:ident.$field:ident, $default:expr,
     [$in:pat, ignorable]) => {
        if matches!($version.number, $in) {
            $crate::gateway::codec::Wire::encode(&$this.$field, $encoder)?;
        }
    };
    ($encoder:ident, $version:ident, $this:ident.$field:ident, $default:expr, [$in:pat]) => {
        if matches!($version.number, $in) {
            $crate::gateway::codec::Wire::encode(&$this.$field, $encoder)?;
        } else if $crate::gateway::codec::message::differs(&$this.$field, &$default) {
            return Err($encoder.error($crate::gateway::codec::EncodeReason::Lost));
        }
    };
}

macro_rules! count_tagged {
    ($version:ident, $this:ident.$field:ident, $default:expr,
     [$in:pat, tag $tag:literal $(, ignorable)?]) => {
        u32::from(
            matches!($version.number, $in)
                && $crate::gateway::codec::message::differs(&$this.$field, &$default),
        )
    };
    ($version:ident, $this:ident.$field:ident, $default:expr, [$($untagged:tt)*]) => {
        0
    };
}

macro_rules! encode_tagged {
    ($encoder:ident, $version:ident, $this:ident.$field:ident, $default:expr,
     [$in:pat, tag $tag:literal $(, ignorable)?]) => {
        if matches!($version.number, $in)
            && $crate::gateway::codec::message::differs(&$this.$field, &$default)
        {
            $encoder.tagged($tag, &$this.$field)?;
        }
    };
    ($encoder:ident, $version:ident, $this:ident.$field:ident, $default:expr,
     [$($untagged:tt)*]) => {};
}

macro_rules! least_of {
    ($version:ident, $type:ty, [$in:pat, tag $($rest:tt)*]) => {
        0
    };
    ($version:ident, $type:ty, [$in:pat $(, $($rest:tt)*)?]) => {
        if matches!($version.number, $in) {
            <$type as $crate::gateway::codec::Wire>::least($version)
        } else {
            0
        }
    };
}

#[cfg(any(test, feature = "sim"))]
macro_rules! sample_field {
    ($rng:ident, $version:ident, $this:ident.$field:ident,
     [$in:pat, null $null:pat $(, $($rest:tt)*)?]) => {
        if matches!($version.number, $in) {
            while {
                $this.$field = $crate::gateway::codec::sample::Sample::sample($rng, $version);
                $this.$field.is_none() && !matches!($version.number, $null)
            } {}
        }
    };
    ($rng:ident, $version:ident, $this:ident.$field:ident, [$in:pat $(, $($rest:tt)*)?]) => {
        if matches!($version.number, $in) {
            $this.$field = $crate::gateway::codec::sample::Sample::sample($rng, $version);
        }
    };
}
