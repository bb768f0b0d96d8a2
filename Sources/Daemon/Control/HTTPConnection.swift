// One HTTP connection: request in, answer out, and an end to every waiting.
//
// NIO's pipelining handler delivers one request at a time. A single deadline runs whenever the peer
// owes us something (the rest of a request, the next request, or taking an answer), so that neither a
// trickling nor a silent peer holds a place for long; none runs otherwise. Bodies are refused. Header
// octets and fields are bounded by the decoder (see ControlServer).

import NIOCore
import NIOHTTP1

final class HTTPConnection: ChannelInboundHandler {
  typealias InboundIn = HTTPServerRequestPart
  typealias OutboundOut = HTTPServerResponsePart

  /// Time the peer has for each thing that it owes.
  private static let patience = TimeAmount.seconds(15)

  private enum State {
    case waiting
    case receiving(HTTPRequestHead, hasBody: Bool)
    case answering
    case closed
  }

  private let gate: SnapshotGate
  private let didClose: () -> Void
  private var state = State.waiting
  private var deadline: Scheduled<Void>?

  init(gate: SnapshotGate, didClose: @escaping () -> Void) {
    self.gate = gate
    self.didClose = didClose
  }

  func channelActive(context: ChannelHandlerContext) {
    startDeadline(context)
    context.fireChannelActive()
  }

  func channelInactive(context: ChannelHandlerContext) {
    finish()
    context.fireChannelInactive()
  }

  func handlerRemoved(context: ChannelHandlerContext) { finish() }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    context.close(promise: nil)
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    switch (unwrapInboundIn(data), state) {
    case (.head(let head), .waiting): state = .receiving(head, hasBody: false)
    case (.body, .receiving(let head, hasBody: false)):
      state = .receiving(head, hasBody: true)
      let response: StatusResponse = Self.isGetOrHead(head) ? .bodyRefused : .methodNotAllowed
      answer(context, to: head, with: response, closing: true)
    case (.end, .receiving(let head, hasBody: false)): handle(context, head)
    case (_, .closed), (.body, _), (.end, _): break
    case (.head, _): context.close(promise: nil)
    }
  }

  private func handle(_ context: ChannelHandlerContext, _ head: HTTPRequestHead) {
    stopDeadline()
    state = .answering
    let wantsHTML = head.headers["Accept"].contains { $0.contains("text/html") }
    switch StatusRequest.parse(
      isGetOrHead: Self.isGetOrHead(head), target: head.uri, wantsHTML: wantsHTML)
    {
    case .answer(let response): answer(context, to: head, with: response, closing: false)
    case .report(let request):
      gate.report { report in
        guard case .answering = self.state else { return }
        let response = report.map(request.response) ?? .unavailable
        self.answer(context, to: head, with: response, closing: false)
      }
    }
  }

  private static func isGetOrHead(_ head: HTTPRequestHead) -> Bool {
    head.method == .GET || head.method == .HEAD
  }

  private func answer(
    _ context: ChannelHandlerContext, to head: HTTPRequestHead, with response: StatusResponse,
    closing: Bool
  ) {
    state = .answering
    startDeadline(context)
    let keepsAlive = head.isKeepAlive && !closing
    let body = context.channel.allocator.buffer(string: response.body)
    var fields = HTTPHeaders([
      ("Content-Type", response.contentType), ("Content-Length", "\(body.readableBytes)"),
      ("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"),
      ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'"),
      ("Referrer-Policy", "no-referrer"), ("Vary", "Accept"),
    ])
    if response.code == 405 { fields.add(name: "Allow", value: "GET, HEAD") }
    if !keepsAlive { fields.add(name: "Connection", value: "close") }
    let status = HTTPResponseStatus(statusCode: response.code)
    let responseHead = HTTPResponseHead(version: head.version, status: status, headers: fields)
    // The end, which lets the next request through, follows only once the peer's socket has the rest:
    // a peer that asks on and on without reading is answered once.
    let written = context.eventLoop.makePromise(of: Void.self)
    written.futureResult.assumeIsolated().whenComplete { result in
      self.finishAnswer(context, keepsAlive: keepsAlive, result: result)
    }
    let isHeadOnly = head.method == .HEAD
    context.write(wrapOutboundOut(.head(responseHead)), promise: isHeadOnly ? written : nil)
    if !isHeadOnly { context.write(wrapOutboundOut(.body(.byteBuffer(body))), promise: written) }
    context.flush()
  }

  private func finishAnswer(
    _ context: ChannelHandlerContext, keepsAlive: Bool, result: Result<Void, any Error>
  ) {
    guard case .answering = state else { return }
    guard case .success = result, keepsAlive else {
      context.close(promise: nil)
      return
    }
    state = .waiting
    startDeadline(context)
    // Delivers the next request from within, if it is here already.
    context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
  }

  private func startDeadline(_ context: ChannelHandlerContext) {
    deadline?.cancel()
    deadline = context.eventLoop.assumeIsolated().scheduleTask(in: Self.patience) {
      context.close(promise: nil)
    }
  }

  private func stopDeadline() {
    deadline?.cancel()
    deadline = nil
  }

  private func finish() {
    stopDeadline()
    if case .closed = state { return }
    state = .closed
    didClose()
  }
}
