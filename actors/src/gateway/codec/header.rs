//! Headers of requests and responses, and the whole way from a frame to a message and back.

use std::borrow::Cow;

use bytes::Bytes;
use bytestring::ByteString;

use super::{
    super::{
        api::{ApiKey, Version},
        error_code::ErrorCode,
        messages::api_versions::{ApiVersion, ApiVersionsResponse},
    },
    decode::Decoder,
    encode::{Encoder, Output},
    error::{DecodeError, DecodeReason, EncodeError, EncodeReason, HeaderError},
    message::{Message, Request},
    wire::Wire,
};

/// The version in which those who do not know each other speak.
const FIRST: Version = Version { number: 0, flexible: false };

/// What stands before the body of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// What is asked for.
    pub api: ApiKey,
    /// In which version the body is, and its answer must be.
    pub version: Version,
    /// The number that the client gave it, which the answer carries.
    pub correlation_id: i32,
    /// Who the client says that it is.
    pub client_id: Option<ByteString>,
}

/// A frame that holds a request, its header read.
#[derive(Clone, Debug)]
pub struct RequestFrame {
    /// Its header.
    pub header: RequestHeader,
    frame: Bytes,
    /// Where the body begins.
    body: usize,
}

impl RequestFrame {
    /// Reads the header of the request in `frame`, which has lost its length. Client ids have a
    /// 16-bit length in every version.
    ///
    /// # Errors
    /// [`HeaderError`]. One that is [`HeaderError::Unsupported`] for [`ApiKey::ApiVersions`] is to be
    /// answered by [`unsupported_api_versions`]; with all others the connection is closed.
    pub fn parse(frame: Bytes) -> Result<Self, HeaderError> {
        let number = |at: usize| Some(i16::from_be_bytes(*frame.get(at..)?.first_chunk()?));
        let (Some(key), Some(asked), Some(correlation_id)) =
            (number(0), number(2), frame.get(4..).and_then(|rest| rest.first_chunk()))
        else {
            return Err(HeaderError::Short);
        };
        let correlation_id = i32::from_be_bytes(*correlation_id);
        let api = ApiKey::from_number(key).ok_or(HeaderError::Unknown(key))?;
        let version = api
            .version(asked)
            .filter(|_| api.serves(asked))
            .ok_or(HeaderError::Unsupported { api, version: asked, correlation_id })?;
        let mut decoder = Decoder::new(frame, 8, api, Version { flexible: false, ..version });
        let client_id = read_client_id(&mut decoder).map_err(|error| match error.reason {
            DecodeReason::Short { .. } => HeaderError::Short,
            _ => HeaderError::ClientId,
        })?;
        if version.flexible {
            skip_tags(&mut decoder).map_err(|_| HeaderError::Tags)?;
        }
        let header = RequestHeader { api, version, correlation_id, client_id };
        Ok(Self { header, body: decoder.at(), frame: decoder.into_frame() })
    }

    /// The request. Bytes behind it are ignored, as Kafka does.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode<R: Request>(&self) -> Result<R, DecodeError> {
        R::decode(&mut self.body())
    }

    /// The request, and how many bytes of memory its arrays take.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn weigh<R: Request>(&self) -> Result<(R, usize), DecodeError> {
        let mut decoder = self.body();
        let request = R::decode(&mut decoder)?;
        Ok((request, decoder.arrays()))
    }

    /// All bytes of the frame.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.frame
    }

    /// The header and all bytes of the frame, of which the header's client id is a slice.
    #[must_use]
    pub fn into_parts(self) -> (RequestHeader, Bytes) {
        (self.header, self.frame)
    }

    /// A decoder that stands at the body.
    #[must_use]
    pub fn body(&self) -> Decoder {
        Decoder::new(self.frame.clone(), self.body, self.header.api, self.header.version)
    }
}

/// Reads a client id. It is a name for people: where it is no UTF-8, what can be read of it will do.
fn read_client_id(decoder: &mut Decoder) -> Result<Option<ByteString>, DecodeError> {
    let Some(length) = decoder.string_length()? else { return Ok(None) };
    let bytes = decoder.take(length)?;
    if let Cow::Owned(readable) = String::from_utf8_lossy(&bytes) {
        return Ok(Some(readable.into()));
    }
    Ok(ByteString::try_from(bytes).ok())
}

fn skip_tags(decoder: &mut Decoder) -> Result<(), DecodeError> {
    for _ in 0..decoder.tags()? {
        let tag = decoder.tag()?;
        decoder.skip(tag);
    }
    Ok(())
}

impl RequestHeader {
    /// Writes the frame of the answer to this request.
    ///
    /// # Errors
    /// [`EncodeError`], with nothing written.
    pub fn respond<M: Message>(
        &self,
        response: &M,
        output: &mut Output,
    ) -> Result<(), EncodeError> {
        write_response(self.version, self.correlation_id, response, output)
    }

    /// Writes the frame of a request with this header.
    ///
    /// # Errors
    /// [`EncodeError`], with nothing written.
    pub fn request<R: Request>(&self, request: &R, output: &mut Output) -> Result<(), EncodeError> {
        output.frame(R::API, self.version, |encoder| {
            R::API.number().encode(encoder)?;
            self.version.number.encode(encoder)?;
            self.correlation_id.encode(encoder)?;
            client_id(self.client_id.as_ref(), encoder)?;
            if self.version.flexible {
                encoder.tags(0);
            }
            request.encode(encoder)
        })
    }

    /// The header of a request of type `R`.
    ///
    /// # Errors
    /// [`EncodeError`] where the codec does not know the version.
    pub fn new<R: Request>(
        version: i16,
        correlation_id: i32,
        client_id: Option<ByteString>,
    ) -> Result<Self, EncodeError> {
        let api = R::API;
        let version = api.version(version).ok_or(EncodeError {
            api,
            version,
            field: "its header",
            reason: EncodeReason::Version,
        })?;
        Ok(Self { api, version, correlation_id, client_id })
    }

    /// Reads the answer to a request with this header from `frame`, which has lost its length. A broker
    /// that does not know the version of an ApiVersions request answers in version 0.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn response<M: Message>(&self, frame: Bytes) -> Result<(i32, M), DecodeError> {
        let answer = read_response(frame.clone(), self.version);
        match answer {
            Err(_) if M::API == ApiKey::ApiVersions => read_response(frame, FIRST),
            answer => answer,
        }
    }
}

/// Writes a client id, whose length has 16 bits in every version.
fn client_id(id: Option<&ByteString>, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
    let length = id.map_or(Ok(-1), |id| {
        i16::try_from(id.len()).map_err(|_| encoder.error(EncodeReason::Length(id.len())))
    })?;
    length.encode(encoder)?;
    id.into_iter().for_each(|id| encoder.put(id.as_bytes()));
    Ok(())
}

/// Whether the header of a response ends in tagged fields. That of ApiVersions never does, since a
/// client reads it before it knows what the broker speaks.
fn has_tags<M: Message>(version: Version) -> bool {
    version.flexible && M::API != ApiKey::ApiVersions
}

fn read_response<M: Message>(frame: Bytes, version: Version) -> Result<(i32, M), DecodeError> {
    let mut decoder = Decoder::new(frame, 0, M::API, version);
    let correlation_id = i32::decode(&mut decoder)?;
    if has_tags::<M>(version) {
        skip_tags(&mut decoder)?;
    }
    Ok((correlation_id, M::decode(&mut decoder)?))
}

fn write_response<M: Message>(
    version: Version,
    correlation_id: i32,
    response: &M,
    output: &mut Output,
) -> Result<(), EncodeError> {
    output.frame(M::API, version, |encoder| {
        correlation_id.encode(encoder)?;
        if has_tags::<M>(version) {
            encoder.tags(0);
        }
        response.encode(encoder)
    })
}

/// Answers an ApiVersions request of a version that is not served: in version 0, with the versions
/// that are, so that the client can ask again.
///
/// # Errors
/// [`EncodeError`], with nothing written.
pub fn unsupported_api_versions(
    correlation_id: i32,
    output: &mut Output,
) -> Result<(), EncodeError> {
    let own = ApiKey::advertised().filter(|(api, _)| *api == ApiKey::ApiVersions);
    let response = ApiVersionsResponse {
        error_code: ErrorCode::UnsupportedVersion,
        api_keys: own.map(ApiVersion::from).collect(),
        ..ApiVersionsResponse::default()
    };
    write_response(FIRST, correlation_id, &response, output)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::messages::{
        api_versions::ApiVersionsRequest,
        fetch::{FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData},
        metadata::{MetadataRequest, MetadataResponse},
        produce::ProduceRequest,
    };

    /// The frame in `output`, without its length.
    fn frame(mut output: Output) -> Bytes {
        let bytes = output.take_bytes();
        let (length, frame) = bytes.split_first_chunk().unwrap();
        assert_eq!(u32::from_be_bytes(*length) as usize, frame.len());
        bytes.slice_ref(frame)
    }

    fn asked<R: Request>(version: i16, request: &R) -> (RequestHeader, Bytes) {
        let header = RequestHeader::new::<R>(version, 7, Some("client".into())).unwrap();
        let mut output = Output::new();
        header.request(request, &mut output).unwrap();
        (header, frame(output))
    }

    #[test]
    fn a_request_is_read_as_it_was_written_under_each_header() {
        for version in [0, 8, 9, 13] {
            let topics = (version > 0).then_some(()).map_or(Some(Vec::new()), |()| None);
            let request = MetadataRequest { topics, ..MetadataRequest::default() };
            let (header, frame) = asked(version, &request);
            let read = RequestFrame::parse(frame).unwrap();
            assert_eq!(read.header, header);
            assert_eq!(read.decode::<MetadataRequest>().unwrap(), request);
        }
    }

    #[test]
    fn an_answer_is_read_as_it_was_written_under_each_header() {
        for version in [0, 13] {
            let (header, _) =
                asked(version, &MetadataRequest { topics: Some(Vec::new()), ..Default::default() });
            let response = MetadataResponse::default();
            let mut output = Output::new();
            header.respond(&response, &mut output).unwrap();
            assert_eq!(header.response(frame(output)).unwrap(), (7, response));
        }
    }

    #[test]
    fn the_header_of_an_api_versions_answer_has_no_tagged_fields() {
        let (header, _) = asked(4, &ApiVersionsRequest::default());
        let mut output = Output::new();
        header.respond(&ApiVersionsResponse::default(), &mut output).unwrap();
        // Correlation id, error, no APIs, throttle time, no tagged fields.
        assert_eq!(&frame(output)[..], b"\0\0\0\x07\0\0\x01\0\0\0\0\0");
    }

    #[test]
    fn an_api_versions_request_from_the_future_is_answered_in_version_0() {
        let error =
            RequestFrame::parse(Bytes::from_static(b"\0\x12\0\x63\0\0\0\x07??")).unwrap_err();
        let HeaderError::Unsupported { api: ApiKey::ApiVersions, version: 99, correlation_id } =
            error
        else {
            panic!("{error}")
        };
        let mut output = Output::new();
        unsupported_api_versions(correlation_id, &mut output).unwrap();
        let answer = frame(output);
        assert_eq!(&answer[..], b"\0\0\0\x07\0\x23\0\0\0\x01\0\x12\0\0\0\x04");
        let (asked, _) = asked(4, &ApiVersionsRequest::default());
        let (_, read) = asked.response::<ApiVersionsResponse>(answer).unwrap();
        assert_eq!(read.error_code, ErrorCode::UnsupportedVersion, "a client reads it too");
        let own = ApiVersion { api_key: 18, min_version: 0, max_version: 4 };
        assert_eq!(read.api_keys, [own]);
    }

    #[test]
    fn what_is_not_served_is_told_from_what_does_not_exist() {
        let parse =
            |bytes: &'static [u8]| RequestFrame::parse(Bytes::from_static(bytes)).unwrap_err();
        assert_eq!(parse(b"\x7f\xff\0\0\0\0\0\x07\xff\xff"), HeaderError::Unknown(i16::MAX));
        assert_eq!(parse(b"\0\0\0\0\0\0\0"), HeaderError::Short);
        assert_eq!(parse(b"\0\x03\0\0\0\0\0\x07\0\x09me"), HeaderError::Short);
        assert_eq!(parse(b"\0\x03\0\0\0\0\0\x07\xff\xfe"), HeaderError::ClientId);
        assert_eq!(parse(b"\0\x03\0\x09\0\0\0\x07\xff\xff\x01\0\x7f"), HeaderError::Tags);
        let produce = parse(b"\0\0\0\x02\0\0\0\x07\xff\xff");
        assert_eq!(produce.to_string(), "Produce version 2 is not supported");
        let handshake = parse(b"\0\x11\0\0\0\0\0\x07\xff\xff");
        assert_eq!(handshake.to_string(), "SaslHandshake version 0 is not supported");
    }

    #[test]
    fn a_client_id_need_not_be_utf_8() {
        let frame = Bytes::from_static(b"\0\x03\0\x01\0\0\0\x07\0\x03f\xfcr\xff\xff\xff\xff");
        let frame = RequestFrame::parse(frame).unwrap();
        assert_eq!(frame.header.client_id.as_deref(), Some("f\u{fffd}r"));
        assert_eq!(frame.decode::<MetadataRequest>().unwrap().topics, None);
    }

    #[test]
    fn an_error_says_where_it_is() {
        // Topics: one, its name of 500 bytes of which one is there.
        let frame = b"\0\x03\0\x01\0\0\0\x07\xff\xff\0\0\0\x01\x01\xf4x";
        let frame = RequestFrame::parse(Bytes::from_static(frame)).unwrap();
        let error = frame.decode::<MetadataRequest>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "Metadata version 1: MetadataRequestTopic.name at byte 16: \
             500 bytes are needed, and 1 remain"
        );
    }

    #[test]
    fn what_a_version_cannot_say_is_an_error_and_writes_nothing() {
        let header = RequestHeader::new::<ProduceRequest>(3, 7, None).unwrap();
        let mut output = Output::new();
        let response = crate::gateway::messages::produce::ProduceResponse {
            node_endpoints: vec![Default::default()],
            ..Default::default()
        };
        let error = header.respond(&response, &mut output).unwrap_err();
        assert_eq!(
            (error.field, error.reason),
            ("ProduceResponse.node_endpoints", EncodeReason::Lost)
        );
        assert!(output.is_empty());
        let null = MetadataRequest::default();
        let header = RequestHeader::new::<MetadataRequest>(0, 7, None).unwrap();
        let error = header.request(&null, &mut output).unwrap_err();
        assert_eq!((error.field, error.reason), ("MetadataRequest.topics", EncodeReason::Null));
        assert!(output.is_empty());
        assert!(RequestHeader::new::<MetadataRequest>(14, 7, None).is_err());
    }

    #[test]
    fn records_are_slices_of_the_frame_and_leave_uncopied() {
        let records = Bytes::from(vec![7; 4096]);
        let partitions =
            vec![PartitionData { records: records.clone().into(), ..Default::default() }];
        let response = FetchResponse {
            responses: vec![FetchableTopicResponse { partitions, ..Default::default() }],
            ..Default::default()
        };
        let (header, _) = asked(12, &FetchRequest::default());
        let mut output = Output::new();
        header.respond(&response, &mut output).unwrap();
        header.respond(&response, &mut output).unwrap();
        let length = output.len();
        let slices = output.take_slices();
        assert_eq!(slices.iter().map(Bytes::len).sum::<usize>(), length);
        assert_eq!(slices[1].as_ptr(), records.as_ptr());
        assert_eq!(slices[3].as_ptr(), records.as_ptr());
        let whole = Bytes::from(slices[..3].concat()).slice(4..length / 2);
        let (_, read) = header.response::<FetchResponse>(whole.clone()).unwrap();
        let slice = read.responses[0].partitions[0].records.slices().next().unwrap();
        assert!(whole.as_ptr_range().contains(&slice.as_ptr()));
        assert_eq!(read, response);
    }
}
