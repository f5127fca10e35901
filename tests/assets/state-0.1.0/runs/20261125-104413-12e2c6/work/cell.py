
raise ValueError('on purpose')
