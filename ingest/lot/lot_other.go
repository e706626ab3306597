//go:build !linux

package lot

import (
	"errors"
	"syscall"
)

// Lot cannot be made here.
type Lot struct{}

// New returns [errors.ErrUnsupported]: connections keep their goroutines here.
func New() (*Lot, error) { return nil, errors.ErrUnsupported }

// Close does nothing.
func (*Lot) Close() error { return nil }

// Len returns 0.
func (*Lot) Len() int { return 0 }

// A Place is where one connection may be parked.
type Place struct{}

// Place returns a place in which nothing can be parked.
func (*Lot) Place() Place { return Place{} }

// Park returns [errors.ErrUnsupported].
func (*Place) Park(syscall.RawConn, Waker) error { return errors.ErrUnsupported }

// Wake does nothing.
func (*Place) Wake() {}
