package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"

	"github.com/gorilla/websocket"
)

// perSource is how many connections one local address opens to one port: the
// range of local ports has about 28,000.
const perSource = 10_000

// idlers are websockets that only answer pings.
type idlers struct {
	open  atomic.Int64
	conns []*websocket.Conn
	done  sync.WaitGroup
}

// openIdle opens n websockets, a few at once. On loopback they come from
// 127.0.0.1, 127.0.0.2 and so on, since one address has too few ports.
func openIdle(ctx context.Context, n int, host string, keys []string) (*idlers, error) {
	all := &idlers{conns: make([]*websocket.Conn, n)}
	name, _, _ := net.SplitHostPort(host)
	many := net.ParseIP(name).To4() != nil && loopback(name)
	var next atomic.Int64
	var fault atomic.Pointer[error]
	var dialers sync.WaitGroup
	for range min(n, 32) {
		dialers.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n || ctx.Err() != nil || fault.Load() != nil {
					return
				}
				var from net.IP
				if many {
					from = net.IPv4(127, 0, 0, byte(1+i/perSource))
				}
				conn, err := dial("ws://"+host+"/v1/stream?key="+keys[i%len(keys)], from)
				if err != nil {
					err = fmt.Errorf("open idle connection %d of %d: %w", i+1, n, err)
					fault.CompareAndSwap(nil, &err)
					return
				}
				all.conns[i] = conn
				all.open.Add(1)
				all.done.Go(func() {
					for {
						if _, _, err := conn.NextReader(); err != nil { // answers pings
							all.open.Add(-1)
							return
						}
					}
				})
			}
		})
	}
	dialers.Wait()
	if p := fault.Load(); p != nil {
		all.close()
		return nil, *p
	}
	if err := ctx.Err(); err != nil {
		all.close()
		return nil, errors.Join(errors.New("open idle connections"), err)
	}
	return all, nil
}

// close ends the connections.
func (all *idlers) close() {
	for _, c := range all.conns {
		if c != nil {
			_ = c.Close() // nothing is under way
		}
	}
	all.done.Wait()
}
