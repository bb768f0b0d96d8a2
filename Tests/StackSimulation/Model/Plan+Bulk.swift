import Primitives

extension Plan {
  /// One transfer over a plain path of 10 ms there and back.
  /// - Parameter loss: hundred-thousandths, in both directions.
  package static func bulk(upload: Int, download: Int, loss: Int, offloads: Bool) -> Plan {
    var plan = Plan()
    plan.offloads = offloads
    plan.timeWait = .seconds(1)
    plan.up.delay = .milliseconds(5)
    plan.down.delay = .milliseconds(5)
    plan.up.loss = loss
    plan.down.loss = loss
    var flow = FlowPlan()
    flow.client.upload = upload
    flow.client.bufferOctets = 1 << 20
    flow.client.flightSegments = 64
    flow.client.timeout = .milliseconds(250)
    flow.target.download = download
    flow.target.bufferOctets = 256 << 10
    plan.flows = [flow]
    return plan
  }
}
