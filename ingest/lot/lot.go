// Package lot keeps connections on which nothing is expected for a while, each without a
// goroutine: a parked one costs a few hundred bytes, and a collection of garbage has no
// stack of it to look through, which of 20,000 takes some 60 ms of a core.
package lot

// Waker is what is parked: an interface, so that who implements it needs no closure for
// each connection, which a collection would look at, too.
type Waker interface {
	Woken() // is called when it is parked no more, in a goroutine of its own
}
