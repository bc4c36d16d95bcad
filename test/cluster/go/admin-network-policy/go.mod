// The last version of the network policy API that has AdminNetworkPolicy and BaselineAdminNetworkPolicy: their CRDs are
// read from it, nothing is built.
module knp.dev/test/cluster/admin-network-policy

go 1.26.0

require sigs.k8s.io/network-policy-api v0.1.5
