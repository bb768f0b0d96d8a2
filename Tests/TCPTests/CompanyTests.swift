import Primitives
import TCP
import Testing

// Who is alone on a worker, and for how long somebody else counts.

@Suite("A flow that is alone on its worker")
struct CompanyTests {
  private let start = MonotonicInstant(nanoseconds: 1_000_000_000)

  @Test("one flow is alone, however often it is heard of")
  func one() {
    var company = Company()
    #expect(company.isAlone(at: start))
    for step in 0..<20 {
      let now = start + .milliseconds(20 * step)
      company.hears(of: 7, at: now)
      #expect(company.isAlone(at: now))
    }
  }

  @Test("a packet of another ends it, until a whole period has gone by without one")
  func another() {
    var company = Company()
    company.hears(of: 7, at: start)
    company.hears(of: 8, at: start + .milliseconds(10))
    company.hears(of: 7, at: start + .milliseconds(11))
    for milliseconds in [12, 49, 50, 60, 99] {
      let now = start + .milliseconds(milliseconds)
      company.hears(of: 7, at: now)
      #expect(!company.isAlone(at: now), "\(milliseconds) ms")
    }
    let later = start + .milliseconds(101)
    company.hears(of: 7, at: later)
    #expect(company.isAlone(at: later))
  }

  @Test("what was heard before a silence does not count")
  func silence() {
    var company = Company()
    company.hears(of: 7, at: start)
    company.hears(of: 8, at: start)
    let later = start + .seconds(1)
    #expect(company.isAlone(at: later))
    company.hears(of: 8, at: later)
    #expect(company.isAlone(at: later))
  }
}
