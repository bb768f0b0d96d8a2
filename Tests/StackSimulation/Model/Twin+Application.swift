import Primitives
import TCP
import Wire

// The twin's user: writes and reads at its plan's pace, and compares what it reads.

extension Twin {

  func write(at now: MonotonicInstant) {
    guard phase == .open, endpoint != nil, !hasFinished else { return }
    if writeAt > now, writeAt != .distantFuture { return }
    writeAt = .distantFuture
    var budget = min(plan.upload - written, plan.writeOctets)
    while budget > 0 {
      let count = endpoint?.room(limit: budget, at: now, memory: &memory, slices: slices) ?? 0
      guard count > 0 else { break }
      var octets = 0
      for slice in slices[..<count] {
        guard let base = slice.base else { continue }
        Pattern.fill(base, key: uploadKey, offset: written + octets, count: slice.octets)
        octets += slice.octets
      }
      endpoint?.commit(octets, memory: &memory)
      written += octets
      budget -= octets
    }
    if written < plan.upload, budget == 0 { writeAt = now + plan.writePause }
    if written == plan.upload, plan.ending == .afterSending || finishReceived {
      hasFinished = true
      endpoint?.finish()
    }
  }

  func read(at now: MonotonicInstant) {
    readAt = .distantFuture
    guard phase == .open, endpoint != nil else { return }
    if let stall = plan.stallAt, !hasStalled, downloaded > stall {
      hasStalled = true
      readAt = now + plan.stall
      return
    }
    var budget = plan.readOctets
    while budget > 0 {
      let (count, octets) = endpoint?.gather(memory: memory, into: slices) ?? (0, 0)
      guard octets > 0 else { break }
      var taken = 0
      for slice in slices[..<count] where taken < min(octets, budget) {
        guard let base = slice.base else { continue }
        let n = min(slice.octets, budget - taken)
        if let wrong = Pattern.mismatch(
          base, key: downloadKey, offset: downloaded + taken, count: n)
        {
          failure = Violation("the twin's octet \(downloaded + taken + wrong) is wrong")
        }
        taken += n
      }
      endpoint?.took(taken, at: now, memory: &memory)
      downloaded += taken
      budget -= taken
    }
    if (endpoint?.receive.untakenOctets ?? 0) > 0 { readAt = now + plan.readPause }
    if endpoint?.isFinishReady == true {
      finishReceived = true
      _ = endpoint?.finishWasTaken(at: now)
      write(at: now)
    }
  }
}
