package ingest

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/gorilla/websocket"

	"serin.dev/serin/ingest/lot"
)

// serve reads messages until the stream ends, and returns when all that were read are
// answered, or until it is quiet, and parks it: it is called again when there is more.
func (e *Edge) serve(s *stream) {
	limits := &e.streams.limits
	for s.closed.Load() == nil {
		if e.breaker.open(sender{s.grant.KeyID, s.client.Prefix}) {
			s.end(websocket.ClosePolicyViolation, "breaker", limits.write)
			break
		}
		err := s.next(limits)
		if err == errQuiet {
			if s.park() {
				return
			}
			continue
		}
		if err == nil {
			var kind int
			var r io.Reader
			if kind, r, err = s.conn.NextReader(); err == nil {
				err = e.receive(s, kind, r)
			}
		}
		if err != nil {
			if errors.Is(err, websocket.ErrReadLimit) {
				s.note("size")
			}
			break
		}
	}
	s.waiting.Wait()
	if p := s.closed.Load(); p != nil && *p == "shutdown" {
		s.end(websocket.CloseGoingAway, "shutdown", limits.write)
	}
	_ = s.conn.Close() // the client was told, or has gone
	e.streams.remove(s)
}

// errQuiet says that a client has said nothing for a while.
var errQuiet = errors.New("quiet")

// next waits for a frame other than a pong, which are taken here: the library reads on
// behind one until there is a message, so that the stream could not be parked.
func (s *stream) next(limits *streamLimits) error {
	for first := true; ; first = false {
		if s.in.Buffered() == 0 {
			now := time.Now()
			wait := limits.pong
			if !s.settled {
				wait = limits.quiet - now.Sub(time.Unix(0, s.last.Load()))
				if wait <= 0 && !first {
					return errQuiet // behind a pong
				}
				wait = max(wait, limits.quiet/16) // of one that was woken, who has something to say
			}
			if err := s.conn.SetReadDeadline(now.Add(wait)); err != nil {
				return err
			}
			if s.closed.Load() != nil {
				return net.ErrClosed // who noted it may have set the deadline before
			}
		}
		if _, err := s.in.Peek(1); err != nil {
			var ne net.Error
			if !s.settled && errors.As(err, &ne) && ne.Timeout() {
				return errQuiet
			}
			return err
		}
		if err := s.alive(time.Now(), limits); err != nil {
			return err
		}
		head, err := s.in.Peek(2)
		if err != nil {
			return err
		}
		const pong, masked, longest = 0x80 | websocket.PongMessage, 0x80, 125 // RFC 6455, sections 5.2 and 5.5
		if head[0] != pong || head[1] < masked || head[1] > masked|longest {
			return nil
		}
		if _, err := s.in.Discard(2 + 4 + int(head[1]&^masked)); err != nil { // and the mask
			return err
		}
	}
}

// alive notes that a frame came, of which the rest has its time.
func (s *stream) alive(now time.Time, limits *streamLimits) error {
	s.heard.Store(now.UnixNano())
	return s.conn.SetReadDeadline(now.Add(limits.pong))
}

// park reports whether the stream was parked: it goes on when there is something to read,
// or its place is woken. Meanwhile it holds nothing that can be made anew: a collection of
// garbage looks at every object of 20,000 streams, while beacons wait.
func (s *stream) park() bool {
	raw, err := s.socket()
	if err == nil {
		s.in = bufio.Reader{} // of which nothing is left
		s.conn.SetPongHandler(ignore)
		s.conn.SetPingHandler(ignore)
		s.conn.SetCloseHandler(ignoreClose)
		err = s.place.Park(raw, s)
	}
	if err != nil {
		s.settled = true
		s.resume()
		return false
	}
	if s.closed.Load() != nil {
		s.place.Wake() // who noted it may have been before us
	}
	return true
}

func ignore(string) error { return nil }

func ignoreClose(int, string) error { return nil }

// Woken has a stream that was parked go on.
func (s *stream) Woken() {
	s.resume()
	s.edge.serve(s)
}

// resume makes what a stream needs to read.
func (s *stream) resume() {
	s.in = *bufio.NewReaderSize(s.conn.NetConn(), streamBuffer)
	s.conn.SetPongHandler(func(string) error { // of one within a message; the others are taken by next
		return s.alive(time.Now(), &s.edge.streams.limits)
	})
	s.conn.SetPingHandler(nil) // the library's: it answers
	s.conn.SetCloseHandler(nil)
}

// socket returns what the stream reads from; not below TLS, where the socket does not tell
// what is left to read.
func (s *stream) socket() (syscall.RawConn, error) {
	if c, ok := s.conn.NetConn().(syscall.Conn); ok {
		return c.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

// streamBuffer is the size of the buffer from which frames are read; a control frame
// fits (RFC 6455, section 5.5), and messages go past it.
const streamBuffer = 512

// hijacked gives the websocket's library a reader of ours, so that it is known whether
// anything is left in it.
type hijacked struct {
	http.ResponseWriter
	in *bufio.Reader
}

func (h *hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	if rw.Reader.Buffered() == 0 { // else the library refuses it
		*h.in = *bufio.NewReaderSize(conn, streamBuffer)
		rw = bufio.NewReadWriter(h.in, rw.Writer)
	}
	return conn, rw, nil
}

// find gives a stream its place in the lot, where there is one. The caller holds mu.
func (ss *streams) find(s *stream) {
	if ss.lot == nil && !ss.lotless {
		var err error
		ss.lot, err = lot.New()
		ss.lotless = err != nil // streams keep their goroutines then
	}
	if !ss.lotless {
		s.place = ss.lot.Place()
	}
}

// close ends what the streams that have ended shared.
func (ss *streams) close() error {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.lot == nil {
		return nil
	}
	return ss.lot.Close()
}
