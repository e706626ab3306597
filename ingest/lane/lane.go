// Package lane is the fast way of small requests: it reads HTTP/1.1 from
// sockets that it owns, serves the few routes that carry almost all traffic,
// and hands every connection that asks for anything else to net/http, with the
// bytes that it has read. What it understands is a strict subset of RFC 9112:
// POST with a Content-Length and plain header lines. It never guesses: a
// request that is in any way out of the ordinary is net/http's to refuse.
//
// The reason is cost. A beacon of ten events is parsed in a few microseconds,
// and net/http takes tens of them for its goroutine that watches the
// connection, its header maps, contexts and timers (ARCHITECTURE.md has the
// figures). Here a request costs one read and one write of the kernel, and an
// idle connection holds no buffer and, after a while, no goroutine.
package lane

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"serin.dev/serin/ingest/lot"
)

// Handler serves requests.
type Handler interface {
	// Match reports whether requests for a path, without its query, are served
	// here. It must not keep path.
	Match(path []byte) bool
	// Begin is called with the head of a request, before its body is read.
	Begin(x *Exchange) Verdict
	// Serve is called with the whole request, and fills in the reply.
	Serve(x *Exchange)
}

// Verdict is what becomes of a request whose head was read.
type Verdict int

// The verdicts.
const (
	Go   Verdict = iota // the body is read and Serve called
	Done                // the reply is complete: it is sent, and the connection closed where the body is not there yet
	Hand                // the connection is net/http's, this request included
)

// Options say how a lane works. All fields are required but Limit and Quiet.
type Options struct {
	Handler       Handler
	MaxBody       int             // bytes
	TooLarge      func(*Exchange) // fills in the reply to a larger Content-Length, before anything of its body is read
	HeaderTimeout time.Duration   // from the first byte of a request to the last of its head
	BodyTimeout   time.Duration   // from there to the last byte of its body
	WriteTimeout  time.Duration   // for a client that does not read
	IdleTimeout   time.Duration   // between requests
	Quiet         time.Duration   // between requests, after which a connection has no goroutine until the next; 0: it keeps its own
	Limit         int             // open connections, of both ways; further ones are closed at once; 0: no limit
}

// Server is a lane. Make it with [New].
type Server struct {
	o     Options
	rest  chan net.Conn // to net/http
	addr  net.Addr
	pool  sync.Pool
	open  atomic.Int64
	over  atomic.Int64
	done  chan struct{}
	close sync.Once

	mu     sync.Mutex
	conns  map[*conn]struct{}
	ending atomic.Bool
	wg     sync.WaitGroup
	lot    *lot.Lot // of quiet connections; nil where the system has none
}

// New returns a lane.
func New(o Options) *Server {
	o.Quiet = min(o.Quiet, o.IdleTimeout)
	s := &Server{o: o, rest: make(chan net.Conn), done: make(chan struct{}), conns: map[*conn]struct{}{}}
	if l, err := lot.New(); err == nil {
		s.lot = l // else they keep their goroutines
	}
	s.pool.New = func() any { return new(Exchange) }
	return s
}

// Serve takes connections from l until [Server.Shutdown]; then it returns nil.
// It closes l.
func (s *Server) Serve(l net.Listener) error {
	defer l.Close()
	s.wg.Add(1) // so that nothing is added while Shutdown waits for none
	defer s.wg.Done()
	go func() {
		<-s.done
		_ = l.Close() // wakes Accept; the second Close is idle
	}()
	s.mu.Lock()
	s.addr = l.Addr()
	s.mu.Unlock()
	var wait time.Duration
	for {
		c, err := l.Accept()
		if err != nil {
			if s.ending.Load() {
				return nil
			}
			var ne net.Error
			if errors.As(err, &ne) && ne.Timeout() || isShort(err) {
				// Out of descriptors: those that are open go on, and free some.
				wait = min(max(2*wait, 5*time.Millisecond), time.Second)
				time.Sleep(wait)
				continue
			}
			return fmt.Errorf("accept: %w", err)
		}
		wait = 0
		if n := s.open.Add(1); s.o.Limit > 0 && n > int64(s.o.Limit) {
			s.open.Add(-1)
			s.over.Add(1)
			_ = c.Close() // the client sees a reset and backs off
			continue
		}
		s.wg.Add(1) // until the connection ends, parked or not
		go s.serve(c)
	}
}

// Open returns how many connections are open, those handed to net/http
// included.
func (s *Server) Open() int64 { return s.open.Load() }

// Refused returns how many connections were closed because of the limit.
func (s *Server) Refused() int64 { return s.over.Load() }

// Rest returns the listener from which net/http takes what is not served here.
func (s *Server) Rest() net.Listener { return rest{s} }

type rest struct{ s *Server }

func (r rest) Accept() (net.Conn, error) {
	select {
	case c := <-r.s.rest:
		return c, nil
	case <-r.s.done:
		return nil, net.ErrClosed
	}
}

func (r rest) Close() error { return nil } // the lane's listener is closed by Shutdown

func (r rest) Addr() net.Addr {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	return r.s.addr
}

// Shutdown takes no more connections, closes the idle ones, and waits until
// the others have answered what they have read, or until ctx ends: then those
// are cut off.
func (s *Server) Shutdown(ctx context.Context) error {
	s.ending.Store(true)
	s.close.Do(func() { close(s.done) })
	s.each(func(c *conn) {
		_ = c.c.SetReadDeadline(past) // wakes the readers
		c.place.Wake()                // which are parked
	})
	quiet := make(chan struct{})
	go func() {
		s.wg.Wait()
		if s.lot != nil {
			_ = s.lot.Close() // nothing is in it
		}
		close(quiet)
	}()
	select {
	case <-quiet:
		return nil
	case <-ctx.Done():
	}
	s.each(func(c *conn) { _ = c.c.Close() })
	<-quiet
	return ctx.Err()
}

var past = time.Unix(1, 0)

func (s *Server) each(f func(*conn)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		f(c)
	}
}

// handOver gives a connection to net/http, with what was read of it.
func (s *Server) handOver(c net.Conn, read []byte) {
	_ = c.SetDeadline(time.Time{}) // an error shows when it is read
	h := &handed{Conn: c, read: append([]byte(nil), read...), s: s}
	select {
	case s.rest <- h:
	case <-s.done:
		_ = h.Close() // nobody is left to answer
	}
}

// handed is a connection of which some bytes were read already.
type handed struct {
	net.Conn
	read []byte
	s    *Server
	once sync.Once
}

func (h *handed) Read(p []byte) (int, error) {
	if len(h.read) > 0 {
		n := copy(p, h.read)
		h.read = h.read[n:]
		if len(h.read) == 0 {
			h.read = nil
		}
		return n, nil
	}
	return h.Conn.Read(p)
}

// SyscallConn returns the socket, for one who waits for it in a way of his own; what was
// read already is not there.
func (h *handed) SyscallConn() (syscall.RawConn, error) {
	c, ok := h.Conn.(syscall.Conn)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return c.SyscallConn()
}

func (h *handed) Close() error {
	h.once.Do(func() { h.s.open.Add(-1) })
	return h.Conn.Close()
}

// conn is a connection of the lane.
type conn struct {
	s       *Server
	c       net.Conn
	r       reader
	peer    netip.AddrPort
	until   time.Time // the read deadline that is set
	write   time.Time // the write deadline that is set
	place   lot.Place
	settled bool        // it is not parked: there is no place, or it was refused
	ends    time.Time   // its idle time; zero where it was not parked since its last request
	timer   *time.Timer // wakes it then; made when it is parked first
	woken   bool        // it was parked, and nothing was read since
}

// peerOf returns the remote address, zero where it is none of IP.
func peerOf(c net.Conn) netip.AddrPort {
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort()
	}
	return netip.AddrPort{}
}
