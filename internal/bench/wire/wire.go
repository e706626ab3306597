// Package wire is a connection for benchmarks: requests are bytes that are
// written as they are, and of an answer no more is read than a benchmark
// needs. A client of net/http would take more of the machine than the server
// that is measured.
package wire

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// Answer is what a server says to one request.
type Answer struct {
	Status int
	Close  bool   // the server closes the connection
	Body   []byte // valid until the next answer
}

// maxAnswer bounds what is read of one.
const maxAnswer = 4 << 20

// ErrAnswer says that what came is no answer in HTTP/1.1.
var ErrAnswer = errors.New("no answer in HTTP/1.1")

// Read reads one answer. The errors are [ErrAnswer] and those of r.
func (a *Answer) Read(r *bufio.Reader) error {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return err
	}
	if len(line) < 13 || !bytes.HasPrefix(line, []byte("HTTP/1.")) {
		return fmt.Errorf("%w: %q", ErrAnswer, line)
	}
	status, err := strconv.Atoi(string(line[9:12]))
	if err != nil {
		return fmt.Errorf("%w: %q", ErrAnswer, line)
	}
	a.Status, a.Close, a.Body = status, line[7] == '0', a.Body[:0]
	length, chunked := 0, false
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok {
			return fmt.Errorf("%w: %q", ErrAnswer, line)
		}
		value = bytes.TrimSpace(value)
		switch len(name) { // most headers are of no interest; do not compare them all
		case len("Content-Length"):
			if bytes.EqualFold(name, []byte("Content-Length")) {
				if length, err = strconv.Atoi(string(value)); err != nil || length < 0 || length > maxAnswer {
					return fmt.Errorf("%w: %q", ErrAnswer, line)
				}
			}
		case len("Transfer-Encoding"):
			chunked = chunked || bytes.EqualFold(name, []byte("Transfer-Encoding")) && bytes.EqualFold(value, []byte("chunked"))
		case len("Connection"):
			a.Close = a.Close || bytes.EqualFold(name, []byte("Connection")) && bytes.EqualFold(value, []byte("close"))
		}
	}
	if status < 200 {
		return a.Read(r) // an interim answer
	}
	if chunked {
		return a.chunks(r)
	}
	return a.more(r, length)
}

func (a *Answer) more(r *bufio.Reader, n int) error {
	at := len(a.Body)
	if at+n > maxAnswer {
		return fmt.Errorf("%w: over %d bytes", ErrAnswer, maxAnswer)
	}
	if cap(a.Body) < at+n {
		a.Body = append(make([]byte, 0, at+n), a.Body...)
	}
	a.Body = a.Body[:at+n]
	_, err := io.ReadFull(r, a.Body[at:])
	return err
}

func (a *Answer) chunks(r *bufio.Reader) error {
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		size, _, _ := strings.Cut(strings.TrimRight(line, "\r\n"), ";")
		n, err := strconv.ParseUint(size, 16, 31)
		if err != nil {
			return fmt.Errorf("%w: chunk %q", ErrAnswer, line)
		}
		if n > 0 {
			if err := a.more(r, int(n)); err != nil {
				return err
			}
		}
		end, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		if end != "\r\n" {
			return fmt.Errorf("%w: a chunk ends in %q", ErrAnswer, end)
		}
		if n == 0 {
			return nil
		}
	}
}

// Patience is how long an answer may take before it counts as none.
const Patience = 30 * time.Second

// Conn is a connection on which requests are sent one after the other. It is
// opened by the first and again after one that closed it. Host must be set; it
// is not safe for concurrent use.
type Conn struct {
	Host   string // and port
	conn   net.Conn
	r      *bufio.Reader
	answer Answer
}

// Open opens the connection where it is not.
func (c *Conn) Open() error {
	if c.conn != nil {
		return nil
	}
	conn, err := net.DialTimeout("tcp", c.Host, 10*time.Second)
	if err != nil {
		return err
	}
	c.conn = conn
	if c.r == nil {
		c.r = bufio.NewReaderSize(conn, 4096)
	}
	c.r.Reset(conn)
	return nil
}

// Close closes the connection, on which nothing may be under way.
func (c *Conn) Close() {
	if c.conn != nil {
		_ = c.conn.Close() // nothing is lost by it
		c.conn = nil
	}
}

// Do writes a request and reads its answer, which is valid until the next
// call. Where there is no whole answer the connection is closed.
func (c *Conn) Do(request []byte) (*Answer, error) {
	if err := c.Open(); err != nil {
		return nil, err
	}
	if err := c.conn.SetDeadline(time.Now().Add(Patience)); err != nil {
		c.Close()
		return nil, err
	}
	_, werr := c.conn.Write(request)
	// A server that refuses a long body answers before it has read all of it:
	// the answer counts, not that the rest could not be written.
	if err := c.answer.Read(c.r); err != nil {
		c.Close()
		return nil, err
	}
	if werr != nil || c.answer.Close {
		c.Close()
	}
	return &c.answer, nil
}

// Request appends a request to buf: a head that ends where the number of the
// body's bytes belongs, and the body.
func Request(buf, head, body []byte) []byte {
	buf = strconv.AppendInt(append(buf, head...), int64(len(body)), 10)
	return append(append(buf, "\r\n\r\n"...), body...)
}
