// Package interop holds the tests that run the real code of delivery tools
// against a real Serin: Argo Rollouts' analysis controller with its providers,
// Flagger's webhook caller and metric provider, the CloudEvents SDK, Alertmanager,
// PagerDuty's client. They are a module
// of their own, so that the product depends on none of them, and need a built
// binary: make interop.
package interop
