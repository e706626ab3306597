package webhook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Teller tells a target's messages in a way of its own, in place of the signed
// POST. It makes one try; the schedule is the deliverer's.
type Teller interface {
	// Tell returns what the receiver answered. A status of 2xx has told the
	// message; [ErrRejected] and [ErrGone] end the trying, any other error and
	// status is tried again.
	Tell(ctx context.Context, m Message) (Answer, error)
}

// Answer is a receiver's to one try.
type Answer struct {
	Status int           // HTTP's or SMTP's; 0: there was none
	After  time.Duration // the wait that it asks for
	Body   []byte        // at most 64 KiB
}

// ErrRejected says that the receiver will never take this message.
var ErrRejected = errors.New("the receiver will not take this message")

// ErrGone says that the receiver takes no message any more.
var ErrGone = errors.New("the receiver takes no more messages")

// Client sends requests; [NewClient] makes one.
type Client = interface {
	Do(*http.Request) (*http.Response, error)
}

// Post sends one body. The error says that there was no answer.
func Post(ctx context.Context, c Client, url string, header http.Header, body []byte) (Answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return Answer{}, fmt.Errorf("make a request: %w", err)
	}
	req.Header = header
	res, err := c.Do(req)
	if err != nil {
		return Answer{}, err
	}
	defer res.Body.Close()
	// The status has said it all; what cannot be read costs the connection only.
	text, _ := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	return Answer{res.StatusCode, RetryAfter(res.Header.Get("Retry-After"), time.Now()), text}, nil
}
