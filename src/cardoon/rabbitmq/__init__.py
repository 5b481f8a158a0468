"""What the RabbitMQ driver is made of: connections, publishing, taking, names and permissions.

RabbitMQ carries frames. It knows no leases, counters or ids; those are its companion's, a broker of another
kind (`cardoon.brokers.rabbitmq`).
"""
