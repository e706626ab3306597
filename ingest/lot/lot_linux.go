package lot

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
)

// Lot is a set of parked connections. Make it with [New].
//
// It is an epoll of its own, since the runtime's wakes a goroutine that waits. It is
// itself waited for in the runtime's, and so holds no thread.
type Lot struct {
	file *os.File
	raw  syscall.RawConn // of file
	done chan struct{}

	mu     sync.Mutex
	parked map[uint64]Waker // by the number of each one's stay
	stays  uint64
	closed bool
}

// New returns an empty lot.
func New() (*Lot, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make an epoll: %w", err)
	}
	if err := syscall.SetNonblock(fd, true); err != nil { // else the runtime would not wait for it
		return nil, fmt.Errorf("make an epoll: %w", errors.Join(err, syscall.Close(fd)))
	}
	l := &Lot{file: os.NewFile(uintptr(fd), "epoll"), done: make(chan struct{}), parked: map[uint64]Waker{}}
	if l.raw, err = l.file.SyscallConn(); err != nil {
		return nil, fmt.Errorf("wait for an epoll: %w", errors.Join(err, l.file.Close()))
	}
	go func() {
		defer close(l.done)
		l.watch()
	}()
	return l, nil
}

// Close wakes all that are parked; nothing can be parked any more.
func (l *Lot) Close() error {
	l.mu.Lock()
	l.closed = true
	parked := l.parked
	l.parked = nil
	l.mu.Unlock()
	for _, w := range parked {
		go w.Woken()
	}
	err := l.file.Close()
	<-l.done
	return err
}

// Len returns how many are parked.
func (l *Lot) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.parked)
}

// watch wakes those that have something to read, until the lot is closed.
func (l *Lot) watch() {
	var events [128]syscall.EpollEvent
	for {
		var n int
		err := l.raw.Read(func(fd uintptr) bool {
			for {
				var err error
				if n, err = syscall.EpollWait(int(fd), events[:], 0); err != syscall.EINTR {
					return n != 0
				}
			}
		})
		if err != nil {
			return // it is closed
		}
		for _, e := range events[:max(n, 0)] {
			l.wake(func() uint64 { return uint64(uint32(e.Fd)) | uint64(uint32(e.Pad))<<32 })
		}
	}
}

// wake ends the stay that of returns, if it has not ended.
func (l *Lot) wake(of func() uint64) {
	l.mu.Lock()
	stay := of()
	w := l.parked[stay]
	delete(l.parked, stay)
	l.mu.Unlock()
	if w != nil {
		go w.Woken()
	}
}

// A Place is where one connection may be parked, again and again. The zero Place is none:
// nothing can be parked in it, and nothing is there to be woken. It is a part of what
// keeps the connection, and not copied once it was used.
type Place struct {
	lot   *Lot
	stay  uint64 // the last; guarded by the lot's mutex
	known bool   // to the epoll
}

// Place returns a place for one connection.
func (l *Lot) Place() Place { return Place{lot: l} }

// Park parks a connection, always the same and not parked yet, and returns at once. When
// there is something to read, or the connection has ended, or [Place.Wake] is called, it
// is parked no more and w is woken, once. After an error it never is.
func (p *Place) Park(conn syscall.RawConn, w Waker) error {
	l := p.lot
	if l == nil {
		return errors.ErrUnsupported
	}
	l.mu.Lock() // for all of it, so that it is not woken, and parked again, before the epoll knows it
	defer l.mu.Unlock()
	if l.closed {
		return os.ErrClosed
	}
	l.stays++
	op := syscall.EPOLL_CTL_MOD
	if !p.known {
		op = syscall.EPOLL_CTL_ADD
	}
	// By level, so that what came before it was parked counts; once, so that nothing is
	// told of it while it is not.
	event := syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLRDHUP | syscall.EPOLLONESHOT, Fd: int32(uint32(l.stays)), Pad: int32(uint32(l.stays >> 32))}
	var gone, refused error
	err := l.raw.Control(func(epoll uintptr) {
		gone = conn.Control(func(fd uintptr) { refused = syscall.EpollCtl(int(epoll), op, int(fd), &event) })
	})
	if err := errors.Join(err, gone, refused); err != nil {
		return fmt.Errorf("park a connection: %w", err)
	}
	p.known, p.stay, l.parked[l.stays] = true, l.stays, w
	return nil
}

// Wake wakes the connection, if it is parked.
func (p *Place) Wake() {
	if p.lot != nil {
		p.lot.wake(func() uint64 { return p.stay })
	}
}
