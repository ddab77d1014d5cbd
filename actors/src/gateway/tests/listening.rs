//! When connections are taken.

use tokio::net::TcpStream;

use super::*;
use crate::gateway::messages::api_versions::ApiVersionsRequest;

/// Before the catalogue is read there is no topic, and clients would take that for the truth.
#[test]
fn whoever_connects_before_the_broker_is_ready_waits_for_it() {
    paused(async {
        let bound = Bound::bind("plain", "127.0.0.1:0", None).unwrap();
        let address = bound.address();
        let (child, broker) = broker::start(broker_spec());
        let spec = GatewaySpec { listeners: vec![bound], ..gateway_spec(Limits::default()) };
        let (gateway_child, gateway) = start(spec, broker.clone());
        let root = SupervisorSpec::new("root").child(gateway_child);
        let root = root.start(LocalPlacement::new(2, services(Faults::none())));
        let mut client = Client { stream: TcpStream::connect(address).await.unwrap(), next: 0 };
        let header = client.send(0, &ApiVersionsRequest::default()).await;
        // In steps, for with each it is looked what the socket has.
        for _ in 0..100 {
            pass(Duration::from_millis(10)).await;
        }
        assert_eq!(gateway.connections(), 0);
        root.start_child(child).await.unwrap();
        broker.ready().await.unwrap();
        let answer = client.receive::<ApiVersionsRequest>(&header).await;
        assert_eq!((answer.error_code, gateway.connections()), (ErrorCode::None, 1));
    });
}
