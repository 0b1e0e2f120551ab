package nodes

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// pipelined is how many requests go out before the first reply is read, and how many keys a page of
// a listing has.
const pipelined = 5000

// Write sends the requests and returns an error unless each is answered by want.
func (n Node) Write(want string, requests ...string) error {
	c, err := n.Dial()
	if err != nil {
		return err
	}
	defer c.Close()
	for chunk := range slices.Chunk(requests, pipelined) {
		replies, err := c.DoAll(chunk...)
		if err != nil {
			return err
		}
		for i, reply := range replies {
			if reply != want {
				return fmt.Errorf("%s answered %q to %.80q, want %q", n.Name, reply, chunk[i], want)
			}
		}
	}
	return nil
}

// Keys returns all keys, sorted, listed page by page.
func (n Node) Keys() ([]string, error) {
	c, err := n.Dial()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	var keys []string
	for cursor := "0"; cursor != "END"; {
		head, err := c.DoAll(fmt.Sprintf("SCAN CURSOR %s COUNT %d", cursor, pipelined))
		if err != nil {
			return nil, err
		}
		words := strings.Fields(head[0])
		if len(words) != 3 || words[0] != "KEYS" {
			return nil, fmt.Errorf("%s: SCAN answered %q", n.Name, head[0])
		}
		count, err := strconv.Atoi(words[1])
		if err != nil || count < 0 || count > pipelined {
			return nil, fmt.Errorf("%s: SCAN answered %q", n.Name, head[0])
		}
		page, err := c.lines(count)
		if err != nil {
			return nil, fmt.Errorf("%s: SCAN: key %d of %d: %w", n.Name, len(page)+1, count, err)
		}
		keys = append(keys, page...)
		cursor = words[2]
	}
	return keys, nil
}

// Dump returns all that the node holds, value by key, read as any client can. It is exact only while
// nobody writes.
func (n Node) Dump() (map[string]string, error) {
	keys, err := n.Keys()
	if err != nil {
		return nil, err
	}
	c, err := n.Dial()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	dump := make(map[string]string, len(keys))
	for chunk := range slices.Chunk(keys, pipelined) {
		requests := make([]string, len(chunk))
		for i, key := range chunk {
			requests[i] = "GET " + key
		}
		values, err := c.DoAll(requests...)
		if err != nil {
			return nil, err
		}
		for i, key := range chunk {
			dump[key] = values[i]
		}
	}
	return dump, nil
}
