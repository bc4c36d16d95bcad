export {
  type Address,
  type Block,
  blockContains,
  formatAddress,
  formatBlock,
  parseAddress,
  parseBlock,
} from './address.ts'
export { OUTSIDE, someIPv4 } from './address-map.ts'
export { readAdminNetworkPolicy, readBaselineAdminNetworkPolicy } from './admin-network-policy.ts'
export { readClusterNetworkPolicy } from './cluster-network-policy.ts'
export {
  type Affected,
  attachEngine,
  type CompiledPolicy,
  Compiler,
  compile,
  type Generation,
  type SubjectChange,
} from './compile.ts'
export { type DecidedBy, type Decision, decidePacket, explain, type PacketDecision, type Stage } from './decision.ts'
export { coversName, type DomainName, ResolvedNames, readDomainName } from './domain-name.ts'
export { type Endpoint, parseQuestion, type Question, QuestionError } from './endpoint.ts'
export { createEngine, type Engine } from './engine.ts'
export {
  type Because,
  type CompiledWhole,
  type Direction,
  type NearestChange,
  type NearestMiss,
  type PolicyEvaluator,
  type PolicyKind,
  type Problem,
  SELECTS_BOTH,
  SELECTS_EGRESS,
  SELECTS_INGRESS,
  type TierTables,
  type Trace,
  type TraceStep,
  type Verdict,
  type WholeEvaluator,
  type WholeKind,
} from './evaluator.ts'
export { ANY_HOOK, type Flow, HOOK_FORWARD, HOOK_INPUT, HOOK_OUTPUT } from './flow.ts'
export type { Identities, Identity, IdentityTables } from './identity.ts'
export { identityTable } from './identity-table.ts'
export { readNetworkPolicy } from './network-policy.ts'
export { InvalidObject, ObjectReader } from './object-reader.ts'
export type { Namespace, NetworkSet, Node, ObjectRef, Workload } from './objects.ts'
export { type Packet, PacketDecoder, packetProblems } from './packet.ts'
export { type Placed, type Placement, pipelineOf, policyKinds, type TierName, tierNames } from './pipeline.ts'
export { type PodTemplateKind, podTemplateKinds, readPodTemplate } from './pod-template.ts'
export type { Policy } from './policy.ts'
export { adminTier, baselineTier, networkPolicies } from './policy-tier.ts'
export { readObject } from './read-object.ts'
export { type Delta, objectKey, type PolicyObject, type Snapshot } from './snapshot.ts'
export { sharedWords, type Words } from './twin-words.ts'
export { clusterPolicyApis, type UnderstoodPolicy, understandPolicy } from './understand.ts'
export { readHostEndpoint, readNamespace, readNetworkSet, readNode, readPod } from './workload.ts'
