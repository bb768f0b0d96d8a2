import Primitives
import SimulationModel

/// A fault by its name: in the harness around the stack, or within the code under test, if the build
/// has those.
struct Planting {
  /// The one in the harness, if it is such.
  var fault: Fault?

  init() {}

  init?(named name: String) {
    if let known = Fault(rawValue: name) {
      fault = known
      return
    }
    #if PLANTED_FAULTS
      guard let known = PlantedFault(rawValue: name) else { return nil }
      PlantedFault.planted = known
    #else
      return nil
    #endif
  }

  static var names: [String] {
    var names = Fault.allCases.map(\.rawValue)
    #if PLANTED_FAULTS
      names += PlantedFault.allCases.map(\.rawValue)
    #endif
    return names
  }
}
