package load

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// answer is what a server says to one request.
type answer struct {
	status int
	close  bool // the server closes the connection
	body   []byte
}

// maxAnswer bounds what is read of one.
const maxAnswer = 4 << 20

var errAnswer = errors.New("no answer in HTTP/1.1")

// read reads one answer; the body is valid until the next one.
func (a *answer) read(r *bufio.Reader) error {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return err
	}
	if len(line) < 13 || !bytes.HasPrefix(line, []byte("HTTP/1.")) {
		return fmt.Errorf("%w: %q", errAnswer, line)
	}
	status, err := strconv.Atoi(string(line[9:12]))
	if err != nil {
		return fmt.Errorf("%w: %q", errAnswer, line)
	}
	a.status, a.close, a.body = status, line[7] == '0', a.body[:0]
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
			return fmt.Errorf("%w: %q", errAnswer, line)
		}
		value = bytes.TrimSpace(value)
		switch len(name) { // most headers are of no interest; do not compare them all
		case len("Content-Length"):
			if bytes.EqualFold(name, []byte("Content-Length")) {
				if length, err = strconv.Atoi(string(value)); err != nil || length < 0 || length > maxAnswer {
					return fmt.Errorf("%w: %q", errAnswer, line)
				}
			}
		case len("Transfer-Encoding"):
			chunked = chunked || bytes.EqualFold(name, []byte("Transfer-Encoding")) && bytes.EqualFold(value, []byte("chunked"))
		case len("Connection"):
			a.close = a.close || bytes.EqualFold(name, []byte("Connection")) && bytes.EqualFold(value, []byte("close"))
		}
	}
	if status < 200 {
		return a.read(r) // an interim answer
	}
	if chunked {
		return a.chunks(r)
	}
	return a.more(r, length)
}

func (a *answer) more(r *bufio.Reader, n int) error {
	at := len(a.body)
	if at+n > maxAnswer {
		return fmt.Errorf("%w: over %d bytes", errAnswer, maxAnswer)
	}
	if cap(a.body) < at+n {
		a.body = append(make([]byte, 0, at+n), a.body...)
	}
	a.body = a.body[:at+n]
	_, err := io.ReadFull(r, a.body[at:])
	return err
}

func (a *answer) chunks(r *bufio.Reader) error {
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		size, _, _ := strings.Cut(strings.TrimRight(line, "\r\n"), ";")
		n, err := strconv.ParseUint(size, 16, 31)
		if err != nil {
			return fmt.Errorf("%w: chunk %q", errAnswer, line)
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
			return fmt.Errorf("%w: a chunk ends in %q", errAnswer, end)
		}
		if n == 0 {
			return nil
		}
	}
}

// sum adds up the numbers that follow a key in a JSON text, which the server
// wrote without spaces.
func sum(text []byte, key string) (total int64, found bool) {
	for {
		i := bytes.Index(text, []byte(key))
		if i < 0 {
			return total, found
		}
		text = text[i+len(key):]
		total, found = total+leading(text), true
	}
}

// leading is the number that a text begins with, or 0.
func leading(text []byte) (n int64) {
	for _, c := range text {
		if c < '0' || c > '9' {
			break
		}
		n = n*10 + int64(c-'0')
	}
	return n
}

// taken returns how many of a body's events the server accepted and shed. A
// protocol whose answers do not say is taken at its word: a status of 200 is
// all of them, less those of a partial success in JSON.
func (a *answer) taken(events int) (accepted, shed int64) {
	if a.status < 200 || a.status > 299 {
		return 0, 0
	}
	accepted, told := sum(a.body, `"accepted":`)
	if told {
		shed, _ = sum(a.body, `"shed":`)
		return accepted, shed
	}
	rejected, _ := sum(a.body, `"rejectedLogRecords":"`)
	return int64(events) - rejected, 0
}
