package lane

import (
	"errors"
	"io"
	"net"
	"slices"
	"syscall"
	"time"
)

const (
	headBytes = 8 << 10  // the buffer of a request: its head must fit, and a small body fits behind it
	keepBytes = 64 << 10 // what a pooled exchange may hold of a larger body
	firstRead = 16 << 10 // how much of a larger body is made room for before any of it is there

	// maxSlack is how much a deadline may be early: it is set anew only when it
	// has moved by more, so that a busy connection costs no timer per request.
	maxSlack = 10 * time.Second
)

// slack returns how early a deadline of a time limit may be.
func slack(limit time.Duration) time.Duration { return min(limit/4, maxSlack) }

func isShort(err error) bool { return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) }

// errHand says that the connection is net/http's from here on.
var errHand = errors.New("hand over")

// reader reads from a connection into an exchange that it takes from the pool
// when there is something to read.
type reader struct {
	s   *Server
	raw syscall.RawConn
	x   *Exchange
	err error
	fn  func(fd uintptr) bool
}

// read is called when the socket may have bytes. While it has none the
// exchange goes back to the pool: that is why an idle connection holds no
// buffer.
func (r *reader) read(fd uintptr) bool {
	if r.x == nil {
		r.x = r.s.pool.Get().(*Exchange)
	}
	x := r.x
	if x.buf == nil {
		x.buf = buffers.Get().(*[headBytes]byte)
	}
	for {
		n, err := syscall.Read(int(fd), x.buf[x.n:])
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			if x.n == 0 {
				r.s.release(x)
				r.x = nil
			}
			return false
		case err != nil:
			r.err = err
		case n <= 0:
			r.err = io.EOF
		default:
			x.n += n
		}
		return true
	}
}

// serve serves a connection until it ends or is handed over.
func (s *Server) serve(c net.Conn) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		s.handOver(c, nil)
		s.wg.Done()
		return
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		s.handOver(c, nil)
		s.wg.Done()
		return
	}
	lc := &conn{s: s, c: c, r: reader{s: s, raw: raw}, peer: peerOf(c), settled: true}
	lc.r.fn = lc.r.read
	if s.lot != nil && s.o.Quiet > 0 {
		lc.place, lc.settled = s.lot.Place(), false
	}
	s.mu.Lock()
	s.conns[lc] = struct{}{}
	s.mu.Unlock()
	s.run(lc)
}

// run serves requests until the connection is parked, from where it is called again, or
// ends.
func (s *Server) run(c *conn) {
	r := &c.r
	err := s.loop(c, r)
	for err == errQuiet {
		if s.park(c) {
			return
		}
		c.settled = true
		err = s.loop(c, r)
	}
	defer s.wg.Done()
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	if errors.Is(err, errHand) {
		s.handOver(c.c, r.x.buf[:r.x.n])
	} else {
		_ = c.c.Close() // the client has gone, or was told
		s.open.Add(-1)
	}
	if r.x != nil {
		s.release(r.x)
	}
}

var (
	errQuiet = errors.New("quiet") // the connection is to be parked
	errIdle  = errors.New("idle")  // it has been for too long
)

// park reports whether the connection was parked.
func (s *Server) park(c *conn) bool {
	if left := time.Until(c.ends); c.timer == nil {
		c.timer = time.AfterFunc(left, c.place.Wake)
	} else {
		c.timer.Reset(left)
	}
	if err := c.place.Park(c.r.raw, c); err != nil {
		c.timer.Stop()
		return false
	}
	if s.ending.Load() {
		c.place.Wake() // Shutdown may have been before us
	}
	return true
}

// Woken has a connection that was parked go on.
func (c *conn) Woken() {
	c.timer.Stop()
	c.woken = true
	c.s.run(c)
}

// loop serves requests, one after the other.
func (s *Server) loop(c *conn, r *reader) error {
	for {
		if s.ending.Load() && (r.x == nil || r.x.n == 0) {
			return nil
		}
		if err := s.head(c, r); err != nil {
			return err
		}
		x := r.x
		x.peer = c.peer
		closing := x.close
		verdict := Done
		if x.length > s.o.MaxBody {
			s.o.TooLarge(x)
		} else {
			verdict = s.o.Handler.Begin(x)
		}
		switch verdict {
		case Hand:
			return errHand
		case Done:
			closing = closing || x.n < x.end+x.length
		default:
			if err := s.body(c, r); err != nil {
				return err
			}
			s.o.Handler.Serve(x)
		}
		closing = closing || s.ending.Load()
		if now := x.now(); c.write.Sub(now) < s.o.WriteTimeout-slack(s.o.WriteTimeout) {
			c.write = now.Add(s.o.WriteTimeout)
			if err := c.c.SetWriteDeadline(c.write); err != nil {
				return err
			}
		}
		if _, err := c.c.Write(x.reply(closing)); err != nil {
			return err
		}
		if closing {
			// What the client is still sending must be taken, or the kernel
			// would reset the connection before the reply is read.
			s.drain(c, x)
			return nil
		}
		x.next()
		if x.n == 0 {
			s.release(x)
			r.x = nil
		}
	}
}

// linger is how long a connection stays half open after its last reply.
const linger = 500 * time.Millisecond

// drain lets a client that is still sending read the last reply: closing at
// once would reset the connection and take the reply with it.
func (s *Server) drain(c *conn, x *Exchange) {
	if x.n >= x.end+x.length {
		return // it was all read
	}
	if tc, ok := c.c.(*net.TCPConn); ok {
		_ = tc.CloseWrite() // an error ends the reading below
	}
	until := time.Now().Add(linger)
	_ = c.c.SetReadDeadline(until) // likewise
	var scratch [4 << 10]byte
	for left := s.o.MaxBody; left > 0; {
		n, err := c.c.Read(scratch[:])
		if err != nil {
			return
		}
		left -= n
	}
	// It goes on: what it sends now stays in the kernel.
	time.Sleep(time.Until(until))
}

// head reads until the head of the next request is whole and understood.
func (s *Server) head(c *conn, r *reader) error {
	for began := false; ; {
		if r.x != nil && r.x.n > 0 {
			done, err := r.x.parse(s.o.Handler.Match)
			if err != nil || done {
				return err
			}
			if r.x.n == len(r.x.buf) {
				return errHand // which answers to a head that is too large
			}
		}
		if !began {
			began = r.x != nil && r.x.n > 0
			if err := s.deadline(c, began); err != nil {
				return err
			}
		}
		if err := r.raw.Read(r.fn); err != nil {
			if !c.settled && r.x == nil && timedOut(err) && !s.ending.Load() {
				return s.quiet(c)
			}
			return err
		}
		if r.err != nil {
			return r.err
		}
		c.ends = time.Time{}
	}
}

// quiet returns errQuiet for a connection that is to be parked until its idle time is up,
// and errIdle when it is.
func (s *Server) quiet(c *conn) error {
	now := time.Now()
	if c.ends.IsZero() {
		c.ends = now.Add(s.o.IdleTimeout - s.o.Quiet)
	}
	if !now.Before(c.ends) {
		return errIdle
	}
	return errQuiet
}

func timedOut(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// deadline sets the read deadline for the head of a request: that of an idle
// connection, or, where a part of a head is there, of the rest of it.
func (s *Server) deadline(c *conn, began bool) error {
	now := time.Now()
	if began {
		return s.set(c, now.Add(s.o.HeaderTimeout))
	}
	limit := s.o.IdleTimeout
	if !c.settled {
		limit = s.o.Quiet
	}
	if c.woken {
		// By what it has to say, or by the end of its time.
		c.woken = false
		return s.set(c, now.Add(limit/16))
	}
	if left := c.until.Sub(now); left > limit-slack(limit) && left <= limit {
		return nil
	}
	return s.set(c, now.Add(limit))
}

func (s *Server) set(c *conn, t time.Time) error {
	c.until = t
	if err := c.c.SetReadDeadline(t); err != nil {
		return err
	}
	if s.ending.Load() {
		return c.c.SetReadDeadline(past) // Shutdown may have been before us
	}
	return nil
}

// body reads the body of the request whose head is there. Room is made as it
// comes, never because a header promised it.
func (s *Server) body(c *conn, r *reader) error {
	x := r.x
	have := x.n - x.end
	if have >= x.length {
		x.Body = x.buf[x.end : x.end+x.length]
		return nil
	}
	if err := c.c.SetReadDeadline(time.Now().Add(s.o.BodyTimeout)); err != nil {
		return err
	}
	c.until = time.Time{} // whatever comes next sets its own
	if x.end+x.length <= len(x.buf) {
		for x.n < x.end+x.length {
			n, err := c.c.Read(x.buf[x.n:])
			if err != nil {
				return err
			}
			x.n += n
		}
		x.Body = x.buf[x.end : x.end+x.length]
		return nil
	}
	x.large = append(x.large[:0], x.buf[x.end:x.n]...)
	x.n = x.end // the rest is in large
	for len(x.large) < x.length {
		if len(x.large) == cap(x.large) {
			x.large = slices.Grow(x.large, min(max(len(x.large), firstRead), x.length-len(x.large)))
		}
		n, err := c.c.Read(x.large[len(x.large):min(cap(x.large), x.length)])
		if err != nil {
			return err
		}
		x.large = x.large[:len(x.large)+n]
	}
	x.Body = x.large
	x.length = 0 // nothing of it is in buf
	return nil
}
