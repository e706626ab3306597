package lane

import (
	"bytes"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Exchange is a request and its reply. Everything in it, and every slice that
// it gives out, is the lane's again when the handler has returned.
type Exchange struct {
	Path  []byte // without the query
	Query []byte // without the question mark; empty where there is none
	Body  []byte // in Serve

	// The reply. A status of 0 is 204. Fields are written as they are: they
	// must not hold what a client sent.
	Status int
	Reply  []byte // body of the reply; reused from request to request
	Type   string // its content type
	extra  []byte // further header lines

	// User is the handler's own, kept from request to request.
	User any

	buf    *[headBytes]byte // nil where nothing is read, or it was given back
	n      int              // bytes in buf
	end    int              // of the head in buf
	length int              // of the body that is in buf behind the head
	close  bool
	fields []field
	peer   netip.AddrPort
	out    []byte
	large  []byte
	at     time.Time
}

// field is one header line.
type field struct{ name, value []byte }

// Peer returns the client's address as the kernel has it.
func (x *Exchange) Peer() netip.AddrPort { return x.peer }

// Get returns the value of the first header line of a name, which must be in
// lower case; nil where there is none.
func (x *Exchange) Get(name string) []byte {
	for i := range x.fields {
		if f := &x.fields[i]; len(f.name) == len(name) && fold(f.name, name) {
			return f.value
		}
	}
	return nil
}

// Fields calls f with each header line, in order.
func (x *Exchange) Fields(f func(name, value []byte)) {
	for i := range x.fields {
		f(x.fields[i].name, x.fields[i].value)
	}
}

// Set adds a header line to the reply. A value with a control character is
// left out.
func (x *Exchange) Set(name, value string) {
	for i := range len(value) {
		if value[i] < ' ' || value[i] == 0x7f {
			return
		}
	}
	x.extra = append(append(append(append(x.extra, name...), ": "...), value...), "\r\n"...)
}

// fold reports whether b is s but for case; s is in lower case.
func fold(b []byte, s string) bool {
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		if c != s[i] {
			return false
		}
	}
	return true
}

// buffers are those of requests. A handler that waits gives its own back before, so that
// there are as many in use as are read or decoded at once, which the processor's cache
// holds, and not as many as wait.
var buffers = sync.Pool{New: func() any { return new([headBytes]byte) }}

// Spent says that nothing of the request is needed any more: what was given out of it is
// the lane's again. Of the reply nothing changes.
func (x *Exchange) Spent() {
	if x.buf == nil || x.n != x.end+x.length {
		return // the next request is behind it
	}
	x.Path, x.Query, x.Body, x.fields = nil, nil, nil, x.fields[:0]
	x.n, x.end, x.length = 0, 0, 0
	x.giveBack()
}

func (x *Exchange) giveBack() {
	if x.buf != nil {
		buffers.Put(x.buf)
		x.buf = nil
	}
}

func (x *Exchange) now() time.Time {
	x.at = time.Now()
	return x.at
}

// next makes room for the next request: what is read of it already goes to
// the front.
func (x *Exchange) next() {
	if rest := x.end + x.length; rest < x.n {
		x.n = copy(x.buf[:], x.buf[rest:x.n])
	} else {
		x.n = 0
	}
	x.reset()
}

func (x *Exchange) reset() {
	x.Path, x.Query, x.Body, x.Type = nil, nil, nil, ""
	x.Status, x.Reply, x.extra = 0, x.Reply[:0], x.extra[:0]
	x.end, x.length, x.close, x.fields = 0, 0, false, x.fields[:0]
	if cap(x.large) > keepBytes {
		x.large = nil
	}
	x.large = x.large[:0]
}

// release gives an exchange back.
func (s *Server) release(x *Exchange) {
	x.n = 0
	x.reset()
	x.giveBack()
	x.peer = netip.AddrPort{}
	if cap(x.Reply) > keepBytes {
		x.Reply = nil
	}
	if cap(x.out) > keepBytes {
		x.out = nil
	}
	s.pool.Put(x)
}

// token has a bit for each byte that may stand in a header's name (RFC 9110,
// section 5.6.2).
var token = func() (t [256]bool) {
	for c := range t {
		t[c] = c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' || bytes.IndexByte([]byte("!#$%&'*+-.^_`|~"), byte(c)) >= 0
	}
	return t
}()

const maxFields = 64

// parse reads the head of a request at the front of buf. It returns false
// where more bytes are needed, and errHand where the request is not one for the
// lane, for whatever reason.
func (x *Exchange) parse(match func(path []byte) bool) (bool, error) {
	b := x.buf[:x.n]
	// Whatever does not begin as one of ours need not be read to its end.
	const method = "POST "
	if n := min(len(b), len(method)); string(b[:n]) != method[:n] {
		return false, errHand
	}
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		// Lines that end otherwise would be waited for in vain.
		if i := bytes.IndexByte(b, '\n'); i >= 0 && b[i-1] != '\r' {
			return false, errHand
		}
		return false, nil
	}
	x.end = end + 4
	head := b[len(method) : end+2] // each line with its end
	line := head[:bytes.IndexByte(head, '\r')]
	head = head[len(line):]
	target, ok := bytes.CutSuffix(line, []byte(" HTTP/1.1"))
	if !ok || len(target) == 0 || target[0] != '/' {
		return false, errHand
	}
	for _, c := range target {
		if c <= ' ' || c >= 0x7f {
			return false, errHand
		}
	}
	x.Path, x.Query, _ = bytes.Cut(target, []byte("?"))
	if !match(x.Path) {
		return false, errHand
	}
	x.fields = x.fields[:0]
	hasHost, hasLength := false, false
	for {
		// Each line ends with CR LF, and neither may stand elsewhere.
		if len(head) < 2 || head[0] != '\r' || head[1] != '\n' {
			return false, errHand
		}
		head = head[2:]
		if len(head) == 0 {
			break
		}
		eol := bytes.IndexByte(head, '\r')
		if eol < 0 {
			return false, errHand
		}
		line, head = head[:eol], head[eol:]
		colon := bytes.IndexByte(line, ':')
		if colon < 1 || len(x.fields) == maxFields {
			return false, errHand
		}
		name, value := line[:colon], trim(line[colon+1:])
		for _, c := range name {
			if !token[c] {
				return false, errHand
			}
		}
		for _, c := range value {
			if c < ' ' && c != '\t' || c == 0x7f {
				return false, errHand
			}
		}
		switch len(name) {
		case 4:
			if fold(name, "host") {
				if hasHost {
					return false, errHand
				}
				hasHost = true
			}
		case 6:
			if fold(name, "expect") {
				return false, errHand
			}
		case 7:
			if fold(name, "upgrade") || fold(name, "trailer") {
				return false, errHand
			}
		case 10:
			if fold(name, "connection") {
				switch {
				case len(value) == 5 && fold(value, "close"):
					x.close = true
				case len(value) == 10 && fold(value, "keep-alive"):
				default:
					return false, errHand
				}
			}
		case 14:
			if fold(name, "content-length") {
				if hasLength || len(value) == 0 || len(value) > 9 {
					return false, errHand
				}
				hasLength = true
				n := 0
				for _, c := range value {
					if c < '0' || c > '9' {
						return false, errHand
					}
					n = 10*n + int(c-'0')
				}
				x.length = n
			}
		case 17:
			if fold(name, "transfer-encoding") {
				return false, errHand
			}
		}
		x.fields = append(x.fields, field{name, value})
	}
	if !hasHost || !hasLength {
		return false, errHand
	}
	return true, nil
}

// trim takes blanks and tabs off both ends (RFC 9110, section 5.5).
func trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

// statusLines are those that the edge answers with.
var statusLines = map[int]string{
	200: "OK", 202: "Accepted", 204: "No Content", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden",
	413: "Request Entity Too Large", 415: "Unsupported Media Type", 429: "Too Many Requests", 503: "Service Unavailable",
}

// date is the Date header line of a second.
type date struct {
	second int64
	line   string
}

var dated atomic.Pointer[date]

func dateLine(now time.Time) string {
	d := dated.Load()
	if s := now.Unix(); d == nil || d.second != s {
		d = &date{s, "Date: " + now.UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT") + "\r\n"}
		dated.Store(d)
	}
	return d.line
}

// reply builds the reply's bytes.
func (x *Exchange) reply(closing bool) []byte {
	status := x.Status
	if status == 0 {
		status = 204
	}
	o := append(x.out[:0], "HTTP/1.1 "...)
	o = strconv.AppendInt(o, int64(status), 10)
	o = append(append(o, ' '), statusLines[status]...)
	o = append(append(o, "\r\n"...), dateLine(x.at)...)
	if x.Type != "" {
		o = append(append(append(o, "Content-Type: "...), x.Type...), "\r\n"...)
	}
	o = append(o, x.extra...)
	if closing {
		o = append(o, "Connection: close\r\n"...)
	}
	if status != 204 {
		o = append(o, "Content-Length: "...)
		o = strconv.AppendInt(o, int64(len(x.Reply)), 10)
		o = append(o, "\r\n"...)
	}
	o = append(o, "\r\n"...)
	if status != 204 {
		o = append(o, x.Reply...)
	}
	x.out = o
	return o
}
